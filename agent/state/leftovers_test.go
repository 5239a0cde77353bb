package state_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/state"
)

// large is an app that needs several Secrets.
func large(t *testing.T, seed uint64) state.App {
	t.Helper()
	a := sample(t, 1)
	a.Objects = make([]byte, 2*state.PartSize)
	noise := rand.New(rand.NewPCG(seed, seed))
	for i := range a.Objects {
		a.Objects[i] = byte(noise.Uint32())
	}
	return a
}

// crash has the n-th write from now, and all after it, never get there.
func (s *secrets) crash(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes, s.dead = n, true
}

// dies ends a write that does not get there, if it is its turn.
func (s *secrets) dies(method string) {
	if !s.dead || method == http.MethodGet {
		return
	}
	if s.writes--; s.writes < 0 {
		panic(http.ErrAbortHandler)
	}
}

func (s *secrets) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

func TestWhatACrashLeavesOfALargeAppGoes(t *testing.T) {
	before, then := large(t, 1), large(t, 2)
	for after := range 5 {
		api, cfg := serve(t)
		s := open(t, cfg)
		if err := s.SaveApp(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		whole := api.count()
		if whole < 3 {
			t.Fatal("the app is too small to show anything")
		}
		api.crash(after)
		_ = s.SaveApp(t.Context(), then) // in the middle of which the agent ends
		api.crash(1 << 20)
		s = open(t, cfg)
		load(t, s)
		if err := s.SaveApp(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		if got := api.count(); got != whole {
			t.Errorf("killed after %d writes: there are %d Secrets, %d are needed", after, got, whole)
		}
		if apps := load(t, open(t, cfg)); len(apps) != 1 || !bytes.Equal(apps[0].Objects, before.Objects) {
			t.Errorf("killed after %d writes: what is kept is not what was written", after)
		}
	}
}

func TestWhatACrashLeavesOfAnAppThatIsGoneGoes(t *testing.T) {
	for age, left := range map[time.Duration]bool{time.Minute: true, 2 * time.Hour: false} {
		api, cfg := serve(t)
		s := open(t, cfg)
		if err := s.SaveApp(t.Context(), large(t, 1)); err != nil {
			t.Fatal(err)
		}
		api.crash(1)
		if err := s.DeleteApp(t.Context(), name); err == nil {
			t.Fatal("it did not crash")
		}
		api.crash(1 << 20)
		api.mu.Lock()
		for _, o := range api.kept {
			o["metadata"].(map[string]any)["creationTimestamp"] = time.Now().Add(-age).UTC().Format(time.RFC3339)
		}
		api.mu.Unlock()
		if apps := load(t, open(t, cfg)); len(apps) != 0 {
			t.Errorf("%d apps are kept", len(apps))
		}
		if got := api.count(); (got > 0) != left {
			t.Errorf("after %s: %d Secrets are left", age, got)
		}
	}
}

func TestWhatMayBeAnotherAgentsIsLeftUntilTheHeadIsOurs(t *testing.T) {
	api, cfg := serve(t)
	old, now := open(t, cfg), open(t, cfg)
	if err := old.SaveApp(t.Context(), large(t, 1)); err != nil {
		t.Fatal(err)
	}
	api.crash(1)
	_ = old.SaveApp(t.Context(), large(t, 2))
	api.crash(1 << 20)
	before := api.count()
	load(t, now) // the old agent may be about to write its head
	if got := api.count(); got != before {
		t.Errorf("%d Secrets were there, and are %d", before, got)
	}
}
