package reconcile_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// cleansUp is an app that waits for its wave early, at 2, and has a hook for when that fails.
func cleansUp(t *testing.T) *spoke {
	t.Helper()
	web := func(v string) string { return docs(inWaves(v), hookOf("clean", v, syncFail)) }
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": web("1")}, nil)
	s.synced("web")
	s.cluster.mu.Lock()
	s.cluster.unwell["early"] = true
	s.cluster.mu.Unlock()
	s.push(map[string]string{"web": web("2")})
	s.until("web", "waiting", waitsFor("early"))
	return s
}

func TestTheTimeForWhichAnAppIsSuspendedIsNoneInWhichItWaits(t *testing.T) {
	for name, restarts := range map[string]func(*spoke){
		"in one life":                 func(*spoke) {},
		"with a restart when it goes": func(s *spoke) { s.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := cleansUp(t)
				time.Sleep(time.Minute)
				s.push(map[string]string{"root": suspendedRoot()})
				s.because("web", "Suspended")
				time.Sleep(time.Hour)
				s.push(map[string]string{"root": rootOf("web")})
				s.until("web", "waiting again", waitsFor("early"))
				began := time.Now()
				time.Sleep(time.Minute)
				restarts(s)
				s.timesOut("web", "WaitsForWave", "WaveTimedOut", began, 10*time.Minute)
			})
		})
	}
}

// dim is what sees nothing until the first list comes.
type dim struct {
	reconcile.Eyes
	listed chan struct{}
}

func (d dim) See(ref fleet.ObjectRef) (watch.Sight, bool) {
	select {
	case <-d.listed:
		return d.Eyes.See(ref)
	default:
		return watch.Sight{}, false
	}
}

func (d dim) Synced(ctx context.Context, ref fleet.ObjectRef) error {
	select {
	case <-d.listed:
		return d.Eyes.Synced(ctx, ref)
	default:
	}
	select {
	case <-d.listed:
		return d.Eyes.Synced(ctx, ref)
	case <-ctx.Done():
		return errors.New("the first list did not come")
	}
}

func TestWhatNoWatchCouldSeeYetIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := cleansUp(t)
		time.Sleep(time.Minute)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Minute)
		s.cluster.mu.Lock()
		s.cluster.unwell["early"] = false
		s.cluster.mu.Unlock()
		listed := make(chan struct{})
		s.parts = func(p *reconcile.Parts) { p.Eyes = dim{p.Eyes, listed} }
		s.start()
		time.Sleep(time.Second)
		synctest.Wait()
		close(listed)
		s.synced("web") // it is looked at again, though nothing tells of it
		if s.cluster.there(jobRef("clean")) {
			t.Error("it was cleaned up after what went well")
		}
	})
}

func TestAHookThatIsWaitedForCostsNoWrites(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("slow")
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("slow", "1", preSync), configMaps("1", "a"))})
	s.because("web", "WaitsForHook")
	look := func() {
		before := s.sources.askedFor("web")
		s.engine.AppSeen(app("web"))
		s.eventually("looked at", func() bool { return s.sources.askedFor("web") > before })
	}
	look()
	writes := s.memory.count("web")
	for range 5 {
		look()
	}
	s.because("web", "WaitsForHook")
	if n := writes(); n > 0 {
		t.Errorf("it took %d writes", n)
	}
}
