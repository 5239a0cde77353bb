// Package storetest says in tests what every store promises.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Run runs the suite. open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, store.Store){
		"what is put is there":                            putGet,
		"only the version that is there is replaced":      versions,
		"what is deleted can be made anew":                deletes,
		"all lists what is there":                         lists,
		"of two writers one wins":                         race,
		"buckets do not share keys":                       apart,
		"bad keys and sizes are refused":                  refusals,
		"a value can't be changed from outside":           aliasing,
		"the log keeps order":                             logs,
		"a deletion minds the version":                    deletesIf,
		"who follows hears of all there is and comes":     follows,
		"who follows late hears of no old deletion twice": followsLate,
		"of several one leads, and then the next":         leads,
		"a log is read from anywhere":                     reads,
		"of changes the newest are kept":                  newest,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func putGet(t *testing.T, s store.Store) {
	b := s.Bucket(store.Status)
	if _, _, err := b.Get(t.Context(), "dev.shop.web"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("before: got %v, want ErrNotFound", err)
	}
	v := put(t, b, "dev.shop.web", "one", 0)
	wantValue(t, b, "dev.shop.web", "one", v)
	next := put(t, b, "dev.shop.web", "two", v)
	if next <= v {
		t.Errorf("versions: %d then %d", v, next)
	}
	wantValue(t, b, "dev.shop.web", "two", next)
}

func versions(t *testing.T, s store.Store) {
	b := s.Bucket(store.Clusters)
	v := put(t, b, "dev", "one", 0)
	put(t, b, "other", "x", 0)
	next := put(t, b, "dev", "two", v)
	for _, stale := range []uint64{0, v, next + 1} {
		if _, err := b.Put(t.Context(), "dev", []byte("lost"), stale); !errors.Is(err, fleet.ErrConflict) {
			t.Errorf("version %d: got %v, want ErrConflict", stale, err)
		}
	}
	if _, err := b.Put(t.Context(), "new", []byte("x"), 7); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a version of what is not there: got %v, want ErrConflict", err)
	}
	wantValue(t, b, "dev", "two", next)
}

func deletes(t *testing.T, s store.Store) {
	b := s.Bucket(store.Status)
	if err := b.Delete(t.Context(), "dev.shop.web"); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	v := put(t, b, "dev.shop.web", "one", 0)
	put(t, b, "dev.shop.web2", "stays", 0)
	if err := b.Delete(t.Context(), "dev.shop.web"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "dev.shop.web"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("after: got %v, want ErrNotFound", err)
	}
	if _, err := b.Put(t.Context(), "dev.shop.web", []byte("lost"), v); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("the deleted version: got %v, want ErrConflict", err)
	}
	put(t, b, "dev.shop.web", "again", 0)
	if got := all(t, b); len(got) != 2 || got["dev.shop.web2"] != "stays" {
		t.Errorf("got %v", got)
	}
}

func lists(t *testing.T, s store.Store) {
	b := s.Bucket(store.Intent)
	if got := all(t, b); len(got) != 0 {
		t.Errorf("empty: got %v", got)
	}
	for i := range 50 {
		put(t, b, fmt.Sprintf("c%d", i), "x", 0)
	}
	v := put(t, b, "dev", "one", 0)
	put(t, b, "dev", "two", v)
	if err := b.Delete(t.Context(), "c7"); err != nil {
		t.Fatal(err)
	}
	got := all(t, b)
	if _, there := got["c7"]; len(got) != 50 || got["dev"] != "two" || there {
		t.Errorf("got %d: %v", len(got), got)
	}
	stop := errors.New("stop")
	n := 0
	err := b.All(t.Context(), func(string, []byte, uint64) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("after an error: %d calls, %v", n, err)
	}
}

func race(t *testing.T, s store.Store) {
	b := s.Bucket(store.Joins)
	var wins, losses int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := b.Put(t.Context(), "j1", fmt.Appendf(nil, "%d", i), 0)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, fleet.ErrConflict):
				losses++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins != 1 || losses != 7 {
		t.Errorf("%d won, %d lost", wins, losses)
	}
}

func apart(t *testing.T, s store.Store) {
	put(t, s.Bucket(store.Intent), "dev", "intent", 0)
	put(t, s.Bucket(store.Clusters), "dev", "cluster", 0)
	if got := all(t, s.Bucket(store.Approvals)); len(got) != 0 {
		t.Errorf("approvals: %v", got)
	}
	v, _, err := s.Bucket(store.Intent).Get(t.Context(), "dev")
	if err != nil || string(v) != "intent" {
		t.Errorf("got %q, %v", v, err)
	}
}

func refusals(t *testing.T, s store.Store) {
	b := s.Bucket(store.Status)
	for _, key := range []string{"", "*", ">", "a.*", "a..b", ".a", "a.", "A", "a b", "a.b.c.d.e", "a/b"} {
		if _, err := b.Put(t.Context(), key, []byte("x"), 0); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("put %q: got %v, want ErrInvalid", key, err)
		}
		if _, _, err := b.Get(t.Context(), key); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("get %q: got %v, want ErrInvalid", key, err)
		}
		if err := b.Delete(t.Context(), key); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("delete %q: got %v, want ErrInvalid", key, err)
		}
	}
	for _, size := range []int{0, store.MaxValue + 1} {
		if _, err := b.Put(t.Context(), "a", bytes.Repeat([]byte("x"), size), 0); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%d bytes: got %v, want ErrInvalid", size, err)
		}
	}
	if _, err := b.Put(t.Context(), "a", bytes.Repeat([]byte("x"), store.MaxValue), 0); err != nil {
		t.Errorf("the most there may be: %v", err)
	}
}

func aliasing(t *testing.T, s store.Store) {
	b := s.Bucket(store.Status)
	value := []byte("one")
	v, err := b.Put(t.Context(), "a", value, 0)
	if err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	got, _, err := b.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	got[1] = 'X'
	wantValue(t, b, "a", "one", v)
}

func logs(t *testing.T, s store.Store) {
	l := s.Log()
	if got, err := l.Last(t.Context(), 10); err != nil || len(got) != 0 {
		t.Errorf("empty: got %q, %v", got, err)
	}
	for i := range 5 {
		if err := l.Append(t.Context(), "dev", fmt.Appendf(nil, "e%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Append(t.Context(), "no.topic", []byte("x")); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	got, err := l.Last(t.Context(), 3)
	if err != nil || string(bytes.Join(got, []byte(","))) != "e2,e3,e4" {
		t.Errorf("last 3: got %q, %v", got, err)
	}
	if got, err := l.Last(t.Context(), 100); err != nil || len(got) != 5 {
		t.Errorf("all: got %q, %v", got, err)
	}
}

func reads(t *testing.T, s store.Store) {
	for _, l := range []store.Log{s.Log(), s.Changes()} {
		for i := range 600 { // more than one batch
			topic := []string{"dev", "prod", "edge"}[i%3]
			if err := l.Append(t.Context(), topic, fmt.Appendf(nil, "%s%d", topic, i)); err != nil {
				t.Fatal(err)
			}
			if i > 250 && l == s.Changes() {
				break // it keeps no more of each
			}
		}
		read := func(topics []string, after uint64, since time.Time, most int) (out []string, last uint64) {
			t.Helper()
			err := l.Read(t.Context(), topics, after, since, func(seq uint64, entry []byte) (bool, error) {
				if seq <= last {
					t.Errorf("%d comes after %d", seq, last)
				}
				if len(out) == most {
					return false, nil
				}
				last = seq
				out = append(out, string(entry))
				return true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return out, last
		}
		all, _ := read(nil, 0, time.Time{}, 1000)
		if n := len(all); n < 252 || all[0] != "dev0" || all[1] != "prod1" {
			t.Errorf("all: %d, %.3q", n, all)
		}
		prod, _ := read([]string{"prod"}, 0, time.Time{}, 1000)
		first, at := read([]string{"prod"}, 0, time.Time{}, 10)
		rest, _ := read([]string{"prod"}, at, time.Time{}, 1000)
		if !slices.Equal(prod, append(first, rest...)) || first[9] != "prod28" {
			t.Errorf("in two parts: %q", first)
		}
		if two, _ := read([]string{"prod", "dev"}, 0, time.Now().Add(-time.Hour), 3); !slices.Equal(two, []string{"dev0", "prod1", "dev3"}) {
			t.Errorf("two topics: %q", two)
		}
		if none, _ := read(nil, 0, time.Now().Add(time.Hour), 10); len(none) != 0 {
			t.Errorf("of the future: %q", none)
		}
		if none, _ := read([]string{"staging"}, 0, time.Time{}, 10); len(none) != 0 {
			t.Errorf("of a topic without entries: %q", none)
		}
		if none, _ := read(nil, 1<<40, time.Time{}, 10); len(none) != 0 {
			t.Errorf("after the end: %q", none)
		}
		failed := errors.New("failed")
		if err := l.Read(t.Context(), nil, 0, time.Time{}, func(uint64, []byte) (bool, error) { return true, failed }); !errors.Is(err, failed) {
			t.Errorf("the reader's error: %v", err)
		}
		if err := l.Read(t.Context(), []string{"a.>"}, 0, time.Time{}, nil); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("a topic that is none: %v", err)
		}
	}
}

func newest(t *testing.T, s store.Store) {
	l := s.Changes()
	if err := l.Append(t.Context(), "quiet", []byte("quiet")); err != nil {
		t.Fatal(err)
	}
	for i := range store.MaxChanges + 20 {
		if err := l.Append(t.Context(), "busy", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	if err := l.Read(t.Context(), nil, 0, time.Time{}, func(_ uint64, e []byte) (bool, error) { got = append(got, string(e)); return true, nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1+store.MaxChanges || got[0] != "quiet" || got[1] != "20" {
		t.Errorf("%d are kept: %.3q", len(got), got)
	}
}

func put(t *testing.T, b store.Bucket, key, value string, version uint64) uint64 {
	t.Helper()
	v, err := b.Put(t.Context(), key, []byte(value), version)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return v
}

func wantValue(t *testing.T, b store.Bucket, key, value string, version uint64) {
	t.Helper()
	got, v, err := b.Get(t.Context(), key)
	if err != nil || string(got) != value || v != version {
		t.Errorf("%s: got %q at %d, %v; want %q at %d", key, got, v, err, value, version)
	}
}

func all(t *testing.T, b store.Bucket) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := b.All(t.Context(), func(key string, value []byte, _ uint64) error {
		out[key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
