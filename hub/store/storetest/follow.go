package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// within is far more than anything here takes.
const within = 30 * time.Second

func deletesIf(t *testing.T, s store.Store) {
	b := s.Bucket(store.Status)
	if err := b.DeleteIf(t.Context(), "dev.shop.web", 3); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	one := put(t, b, "dev.shop.web", "one", 0)
	two := put(t, b, "dev.shop.web", "two", one)
	if err := b.DeleteIf(t.Context(), "dev.shop.web", one); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("an old version: got %v, want ErrConflict", err)
	}
	wantValue(t, b, "dev.shop.web", "two", two)
	if err := b.DeleteIf(t.Context(), "dev.shop.web", two); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "dev.shop.web"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("after: got %v, want ErrNotFound", err)
	}
	if err := b.DeleteIf(t.Context(), "dev.shop.web", two); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := b.DeleteIf(t.Context(), "*", two); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("a key that is none: %v", err)
	}
	if got := all(t, b); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	put(t, b, "dev.shop.web", "anew", 0)
}

// reader follows a bucket and keeps what it hears.
type reader struct {
	mu    sync.Mutex
	docs  map[string]string
	news  chan struct{}
	ready chan struct{}
	ended chan error
	stop  context.CancelFunc
}

func read(t *testing.T, b store.Bucket) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{docs: map[string]string{}, news: make(chan struct{}, 1), ready: make(chan struct{}), ended: make(chan error, 1), stop: cancel}
	versions := map[string]uint64{}
	go func() {
		r.ended <- b.Follow(ctx, func(key string, value []byte, version uint64) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			switch {
			case key == "":
				close(r.ready)
			case version <= versions[key]:
				t.Errorf("%s: version %d came after %d", key, version, versions[key])
			case value == nil:
				delete(r.docs, key)
			default:
				r.docs[key] = string(value)
			}
			versions[key] = version
			select {
			case r.news <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	t.Cleanup(cancel)
	return r
}

func (r *reader) wait(t *testing.T, what string, holds func(docs map[string]string) bool) {
	t.Helper()
	end := time.After(within)
	for {
		r.mu.Lock()
		ok := holds(r.docs)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.news:
		case err := <-r.ended:
			t.Fatalf("%s: it ended: %v", what, err)
		case <-end:
			t.Fatalf("%s: not seen; %v is there", what, r.docs)
		}
	}
}

func (r *reader) isReady(t *testing.T) {
	t.Helper()
	select {
	case <-r.ready:
	case <-time.After(within):
		t.Fatal("it never says that all there was has come")
	}
}

func (r *reader) close(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(within):
		t.Error("it does not end")
	}
}

func follows(t *testing.T, s store.Store) {
	b := s.Bucket(store.Intent)
	empty := read(t, b)
	empty.isReady(t)
	for i := range 20 {
		put(t, b, fmt.Sprintf("c%d", i), "old", 0)
	}
	late := read(t, b)
	late.isReady(t)
	late.mu.Lock()
	if len(late.docs) != 20 {
		t.Errorf("%d documents came before the end of what there was", len(late.docs))
	}
	late.mu.Unlock()
	v := put(t, b, "c20", "one", 0)
	v = put(t, b, "c20", "two", v)
	if err := b.Delete(t.Context(), "c3"); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteIf(t.Context(), "c4", 1); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("c4: %v", err)
	}
	put(t, b, "c20", "three", v)
	for name, r := range map[string]*reader{"from the start": empty, "late": late} {
		r.wait(t, name, func(docs map[string]string) bool {
			_, gone := docs["c3"]
			return len(docs) == 20 && !gone && docs["c20"] == "three" && docs["c4"] == "old"
		})
		r.close(t)
	}
	stop := errors.New("stop")
	if err := b.Follow(t.Context(), func(string, []byte, uint64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of who follows", err)
	}
}

func followsLate(t *testing.T, s store.Store) {
	b := s.Bucket(store.Status)
	put(t, b, "a", "x", 0)
	put(t, b, "b", "x", 0)
	for _, key := range []string{"a", "b"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	r := read(t, b)
	r.isReady(t)
	put(t, b, "a", "anew", 0)
	r.wait(t, "made anew", func(docs map[string]string) bool { return len(docs) == 1 && docs["a"] == "anew" })
	r.close(t)
}

func leads(t *testing.T, s store.Store) {
	var leading atomic.Int32
	began := make(chan string, 10)
	start := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			store.Lead(ctx, s.Bucket(store.Leases), "tend", name, func(ctx context.Context) {
				if n := leading.Add(1); n != 1 {
					t.Errorf("%d lead", n)
				}
				began <- name
				<-ctx.Done()
				leading.Add(-1)
			})
		}()
		return func() { cancel(); <-done }
	}
	next := func() string {
		t.Helper()
		select {
		case name := <-began:
			return name
		case <-time.After(2 * within):
			t.Fatal("nobody leads")
		}
		return ""
	}
	stop := map[string]func(){"a": start("a"), "b": start("b")}
	first := next()
	stop[first]()
	second := next()
	if second == first {
		t.Errorf("%s leads though it has ended", first)
	}
	stop[second]()
	if n := leading.Load(); n != 0 {
		t.Errorf("%d lead in the end", n)
	}
}
