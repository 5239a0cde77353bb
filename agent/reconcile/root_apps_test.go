package reconcile_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// mostLate is how long what can wait is put off while apps wait to run.
const mostLate = 45 * time.Second

// shown tells how many App objects are on the cluster.
func (c *cluster) shown() int { return c.count("App") }

func TestWhatManyAppsRunComesBeforeTheirAppObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, names := crowded(t)
		early := 0
		s.cluster.onApply = func(int) {
			if s.cluster.applied() < crowd-inHand {
				early = s.cluster.shown()
			}
		}
		s.crowdIn()
		for _, name := range names {
			s.synced(name)
		}
		s.synced("root")
		if early != 0 {
			t.Errorf("%d of %d App objects were sent while apps waited to run", early, crowd)
		}
		if n := s.cluster.shown(); n != crowd {
			t.Errorf("%d of %d App objects are there when all was done", n, crowd)
		}
	})
}

func TestAppObjectsArePutOffForAWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, names := crowded(t)
		close(s.cluster.gate)
		running := 0
		s.cluster.onTry = func() { time.Sleep(4 * time.Second) } // for each app; there are four workers
		s.cluster.onApply = func(int) {
			if s.cluster.shown() == 1 {
				running = s.cluster.applied()
			}
		}
		s.patience = 2 * time.Minute
		s.push(nil)
		s.because("root", "Starting")
		for _, name := range names {
			s.synced(name)
		}
		s.synced("root")
		if running == 0 || running > crowd-inHand {
			t.Errorf("%d of %d apps ran when their App objects were sent", running, crowd)
		}
	})
}

func TestAppsThatAreNotShownYetAreGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, names := crowded(t)
		s.cluster.onTry = func() { time.Sleep(time.Second) }
		s.push(nil)
		s.because("root", "Starting")
		close(s.cluster.gate)
		time.Sleep(5 * time.Second) // of the bubble's own clock: some run by then
		s.cluster.mu.Lock()
		shown, running := s.cluster.shown(), s.cluster.applied()
		s.cluster.mu.Unlock()
		s.push(map[string]string{"root": rootOf(names[crowd-1])})
		s.because("root", "WaitsForConfirmation")
		time.Sleep(2 * mostLate)
		s.cluster.mu.Lock()
		defer s.cluster.mu.Unlock()
		if n := s.cluster.applied(); shown != 0 || running == 0 || n < running {
			t.Errorf("%d apps ran, %d of them shown, when Git wanted one; now %d do, and nobody confirmed that", running, shown, n)
		}
	})
}

// The root's own trouble is no reason to show nothing.
func TestAppObjectsArePutOffForAWhileThoughTheRootCanNotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, names := crowded(t)
		s.cluster.onTry = func() { time.Sleep(time.Second) }
		close(s.cluster.gate)
		s.push(nil)
		s.because("root", "Starting")
		s.repo.mu.Lock()
		s.repo.lost = map[string]error{"root": errors.New("the server is away")}
		s.repo.mu.Unlock()
		s.push(map[string]string{"root": docs(rootOf(names...), "# more\n")})
		time.Sleep(2 * mostLate)
		s.cluster.mu.Lock()
		defer s.cluster.mu.Unlock()
		if n := s.cluster.shown(); n != crowd {
			t.Errorf("%d of %d App objects are there", n, crowd)
		}
	})
}
