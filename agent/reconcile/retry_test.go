package reconcile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

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
