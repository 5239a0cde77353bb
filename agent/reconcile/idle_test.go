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
