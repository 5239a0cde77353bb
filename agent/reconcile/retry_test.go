package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// attempts are when an app's object was sent, as time since the first.
func (c *cluster) attempts(name string) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []time.Duration
	for _, t := range c.sentAt[name] {
		out = append(out, t.Sub(c.sentAt[name][0]))
	}
	return out
}

func retried(name, retry string) string {
	return strings.Replace(rootOf(name), "spec: {", "spec: {sync: {retry: "+retry+"}, ", 1)
}

func TestAnAppThatAlwaysFailsIsTriedLessAndLessAndDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := rootOf("bad", "a", "b", "c", "d")
		s := newSpoke(t, map[string]string{
			"root": root, "bad": configMaps("refuse", "bad"),
			"a": configMaps("1", "a"), "b": configMaps("1", "b"), "c": configMaps("1", "c"), "d": configMaps("1", "d"),
		}, func(c *reconcile.Config) { c.Workers = 1 })
		s.because("bad", "ApplyFailed")
		for _, name := range []string{"a", "b", "c", "d"} {
			s.synced(name)
		}
		time.Sleep(time.Hour) // of the bubble's own clock
		synctest.Wait()
		tries := s.cluster.attempts("bad")
		for len(tries) > 1 && tries[1] == 0 {
			tries = tries[1:] // what is wanted was read, and passed on, in the same moment
		}
		if len(tries) < 35 || len(tries) > 40 {
			t.Fatalf("tried %d times in an hour: %v", len(tries), tries)
		}
		for i := 1; i < len(tries); i++ {
			pause, least := tries[i]-tries[i-1], min(time.Second<<(i-1), 2*time.Minute)
			if i > 8 {
				least = 2 * time.Minute
			}
			if pause < least || pause > least+least/10+time.Second {
				t.Errorf("try %d came after %s, want %s", i, pause, least)
			}
		}
		// What another app changes is there at once, each time.
		for _, value := range []string{"2", "3", "4"} {
			before := time.Now()
			s.push(map[string]string{"a": configMaps(value, "a")})
			s.until("a", "changed", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("a")), value) })
			if waited := time.Since(before); waited > time.Second {
				t.Errorf("it took %s", waited)
			}
		}
	})
}

func TestWhatAWatchSeesDoesNotShortenThePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		s.push(map[string]string{"web": configMaps("2", "a") + "\n---\n" + configMaps("refuse", "b")})
		s.because("web", "ApplyFailed")
		before := s.checks()
		for range 600 {
			time.Sleep(time.Second)
			s.cluster.becomes(configMap("a"), true)
			synctest.Wait()
		}
		if n := s.checks() - before; n < 9 || n > 14 {
			t.Errorf("tried %d times in ten minutes", n)
		}
	})
}

// checks counts the changes that were put to the API server, of an app with the object b.
func (s *spoke) checks() (n int) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, name := range s.cluster.checked {
		if name == "b" {
			n++
		}
	}
	return n
}

func TestTheNextTryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": retried("web", "{interval: 1m, maxInterval: 3m}"), "web": configMaps("refuse", "web")}, nil)
		s.because("web", "ApplyFailed")
		for n, least := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 3 * time.Minute} {
			got := s.until("web", "told", func(a fleet.AppStatus) bool { return a.Retry != nil && a.Retry.Failed == n+1 })
			if in := time.Until(got.Retry.Next); in < least-time.Second || in > least+least/10 {
				t.Errorf("after %d failures the next try comes in %s, want %s", n+1, in, least)
			}
			time.Sleep(time.Until(got.Retry.Next) + time.Second)
		}
		s.until("web", "told on the App", func(fleet.AppStatus) bool {
			s.told.mu.Lock()
			defer s.told.mu.Unlock()
			r := s.told.objects[app("web")].Retry
			return r != nil && r.Failed >= 4 && r.Next.After(time.Now())
		})
		s.push(map[string]string{"web": configMaps("1", "web")})
		if got := s.synced("web"); got.Retry != nil {
			t.Errorf("%+v", got.Retry)
		}
	})
}

func TestACommitAndASyncTryAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("refuse", "web")}, nil)
		s.because("web", "ApplyFailed")
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		tried := func(what string, act func()) {
			t.Helper()
			before := len(s.cluster.attempts("web"))
			act()
			synctest.Wait()
			if n := len(s.cluster.attempts("web")) - before; n != 1 {
				t.Errorf("%s: tried %d times at once", what, n)
			}
			if got := s.because("web", "ApplyFailed"); got.Retry == nil || got.Retry.Failed != 1 {
				t.Errorf("%s: the pauses do not begin anew: %+v", what, got.Retry)
			}
		}
		tried("a commit", func() { s.push(map[string]string{"web": configMaps("refuse", "web") + "# anew\n"}) })
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		tried("a sync", func() {
			in := fleet.Intent{Instance: "hub", Revision: 1, Syncs: []fleet.SyncRequest{{ID: "now", App: app("web")}}}
			if err := s.engine.TakeIntent(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func TestACommitThatComesDuringATryIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("refuse", "web")}, nil)
		s.because("web", "ApplyFailed")
		time.Sleep(10 * time.Minute) // the pauses are long by now
		synctest.Wait()
		s.cluster.mu.Lock()
		s.cluster.onTry = func() {
			s.cluster.mu.Lock()
			s.cluster.onTry = nil
			s.cluster.mu.Unlock()
			s.push(map[string]string{"web": configMaps("1", "web")})
			time.Sleep(time.Second) // it has been seen
		}
		s.cluster.mu.Unlock()
		before := len(s.cluster.attempts("web"))
		for len(s.cluster.attempts("web")) == before {
			time.Sleep(10 * time.Millisecond)
		}
		began := time.Now()
		s.synced("web")
		if waited := time.Since(began); waited > 1500*time.Millisecond {
			t.Errorf("it was tried %s later", waited)
		}
	})
}

func TestARenderThatWasEndedIsTriedAgainWithoutACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
		s.synced("web")
		s.repo.mu.Lock()
		s.repo.ended = map[string]error{"web": errors.New("web: rendering took more than 1m0s")}
		s.repo.mu.Unlock()
		s.push(map[string]string{"web": configMaps("2", "web")})
		bad := s.because("web", "RenderFailed")
		if bad.Retry == nil || bad.Retry.Failed != 1 || time.Until(bad.Retry.Next) < 9*time.Minute {
			t.Fatalf("%+v", bad.Retry)
		}
		renders := func() (n int) {
			s.repo.mu.Lock()
			defer s.repo.mu.Unlock()
			for _, path := range s.repo.renders {
				if path == "web" {
					n++
				}
			}
			return n
		}
		before := renders()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := renders() - before; n < 7 || n > 9 { // after 10m, 20m, 40m ... 6h
			t.Errorf("rendered %d times in a day", n)
		}
		if !strings.Contains(s.cluster.content(configMap("web")), `"1"`) {
			t.Error("what runs was touched")
		}
		s.repo.mu.Lock()
		s.repo.ended = nil // the machine is well again
		s.repo.mu.Unlock()
		time.Sleep(6*time.Hour + time.Minute)
		synctest.Wait()
		if got := s.synced("web"); got.Retry != nil || !strings.Contains(s.cluster.content(configMap("web")), `"2"`) {
			t.Errorf("%+v", got)
		}
	})
}

// A failed try is followed by a later one. A commit in between is tried at once,
// and where that fails too, the try that was to come is too early for it.
func TestAnAppThatFailsTwiceWithinAMomentIsTriedAgain(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("0", "a", "b")}, nil)
	s.synced("web")
	s.cluster.refuse("b", true)
	var first time.Time
	for n := 1; n < 3 || time.Since(first) < 300*time.Millisecond; n++ {
		sent := s.cluster.requests()
		s.push(map[string]string{"web": configMaps(fmt.Sprint(n), "a", "b")})
		s.eventually("tried", func() bool { return s.cluster.requests() > sent })
		s.because("web", "ApplyFailed")
		if n == 1 {
			first = time.Now()
		}
	}
	s.cluster.refuse("b", false)
	s.until("web", "synced", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced })
}
