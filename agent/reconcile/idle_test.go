package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStatusWithoutAnAppObjectIsNotPolledFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": strings.Replace(rootOf("absent"), "source:", "nosuch:", 1)}, nil)
		s.because("absent", "InvalidSpec")
		time.Sleep(time.Hour) // of the bubble's own clock
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		if n := s.told.misses[app("absent")]; n == 0 || n > 20 {
			t.Errorf("the status of an App that is not there was tried %d times in an hour", n)
		}
	})
}

func TestWhatFailedIsNotTriedAgainBecauseTheRootWasLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("refuse", "web")}, nil)
		s.because("web", "ApplyFailed")
		synctest.Wait()
		before := s.cluster.tries()
		for range 20 {
			s.engine.AppSeen(app("root"))
			synctest.Wait()
		}
		if n := s.cluster.tries() - before; n != 0 {
			t.Errorf("tried %d times more", n)
		}
	})
}

func (c *cluster) tries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}
