package reconcile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// frozen is an object of the last wave that is created anew where it changes.
func frozen(name, value string) string {
	return asking("ConfigMap", name, force+`, capstan.dev/wave: "5"`, value)
}

// restart ends the agent, and starts another.
func (s *spoke) restart() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

// timesOut wants an app to be late at a time after something began, and not a moment before.
func (s *spoke) timesOut(name, reason, late string, began time.Time, within time.Duration) {
	s.t.Helper()
	time.Sleep(time.Until(began.Add(within - 10*time.Second)))
	synctest.Wait()
	s.because(name, reason)
	time.Sleep(20 * time.Second)
	s.because(name, late)
}

func TestAWaveTimesOutWhenItShouldThoughTheAgentRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": inWaves("1")}, nil)
		s.synced("web")
		s.cluster.mu.Lock()
		s.cluster.unwell["early"] = true
		s.cluster.mu.Unlock()
		s.push(map[string]string{"web": inWaves("2")})
		s.until("web", "waiting", waitsFor("early"))
		began, writes := time.Now(), s.memory.count("web")
		for range 3 {
			time.Sleep(2 * time.Minute)
			s.restart()
			s.until("web", "waiting again", waitsFor("early"))
		}
		s.timesOut("web", "WaitsForWave", "WaveTimedOut", began, 10*time.Minute)
		if n := writes(); n > 0 {
			t.Errorf("it took %d writes", n)
		}

		// The next wave has its own time, and so has another change.
		s.cluster.mu.Lock()
		s.cluster.unwell["plain"] = true
		s.cluster.mu.Unlock()
		s.cluster.becomes(configMap("early"), true)
		s.until("web", "at the next wave", waitsFor("plain"))
		began = time.Now()
		time.Sleep(5 * time.Minute)
		s.restart()
		s.timesOut("web", "WaitsForWave", "WaveTimedOut", began, 10*time.Minute)
		s.push(map[string]string{"web": inWaves("3")})
		s.until("web", "at another change", waitsFor("plain"))
		s.restart()
		s.timesOut("web", "WaitsForWave", "WaveTimedOut", time.Now(), 10*time.Minute)
		s.cluster.becomes(configMap("plain"), true)
		s.synced("web")
		if k := s.keptOf("web"); k.Waits != nil {
			t.Errorf("it is noted to wait for %+v", k.Waits)
		}
	})
}

// count tells how often an app was written down since.
func (m *memory) count(name string) func() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	m.saved = func(a state.App) {
		if a.Name == app(name) {
			n++
		}
	}
	return func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return n
	}
}

func TestAWaitThatAnOlderAgentWroteDownBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": ""}, nil)
		s.cluster.unwell["early"] = true
		s.push(map[string]string{"root": rootOf("web"), "web": inWaves("1")})
		s.until("web", "waiting", waitsFor("early"))
		time.Sleep(8 * time.Minute)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		var kept map[string]any
		if err := json.Unmarshal(s.memory.apps[app("web")], &kept); err != nil {
			t.Fatal(err)
		}
		delete(kept, "waits")
		s.memory.apps[app("web")], _ = json.Marshal(kept) // it was decoded
		s.start()
		s.timesOut("web", "WaitsForWave", "WaveTimedOut", time.Now(), 10*time.Minute)
	})
}

func TestWhatIsBeingDeletedTimesOutWhenItShouldThoughTheAgentRestarts(t *testing.T) {
	for name, c := range map[string]struct {
		held         string
		change       map[string]string
		reason, late string
	}{
		"with its app":          {"late", map[string]string{"root": rootOf("db")}, "Removing", "RemoveTimedOut"},
		"with a change":         {"late", map[string]string{"web": docs(frozen("frozen", "1"), configMaps("1", "a", "b", "c"))}, "Pruning", "PruneTimedOut"},
		"after a change":        {"early", map[string]string{"web": docs(frozen("frozen", "1"), configMaps("1", "a", "b", "c"))}, "Pruning", "PruneTimedOut"},
		"to be created anew":    {"frozen", map[string]string{"web": docs(frozen("frozen", "2"), configMaps("1", "a", "b", "c"), inWaves("1"))}, "Recreating", "RecreateTimedOut"},
		"a wave later to be so": {"frozen", map[string]string{"web": docs(frozen("frozen", "2"), configMaps("1", "a", "b", "c"), inWaves("2"))}, "Recreating", "RecreateTimedOut"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": docs(frozen("frozen", "1"), configMaps("1", "a", "b", "c"), inWaves("1")), "db": configMaps("1", "db")}, nil)
				s.synced("web")
				s.cluster.hold(c.held, true)
				s.push(c.change)
				s.because("web", c.reason)
				began := time.Now()
				time.Sleep(6 * time.Minute)
				s.restart()
				s.timesOut("web", c.reason, c.late, began, 10*time.Minute)
				if got := s.because("web", c.late); got.Sync != fleet.OutOfSync || !strings.Contains(got.Message, "for more than 10m0s: ") {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

// Whether a wait takes too long is judged once for all that follows from it: between two
// looks at the clock it could become so, and nobody would clean up.
func TestAHookThatTakesTooLongIsCleanedUpAfterWheneverThatIs(t *testing.T) {
	for n := range 25 {
		synctest.Test(t, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": ""}, nil)
			s.patience = 20 * time.Second
			s.cluster.ills("slow")
			s.again(func(p *reconcile.Parts) {
				now, looks := p.Now, atomic.Int64{}
				p.Now = func() time.Time { return now().Add(time.Duration(looks.Add(1)) * time.Second) }
			})
			s.push(map[string]string{
				"root": strings.Replace(rootOf("web"), "spec: {", fmt.Sprintf("spec: {sync: {waveTimeout: %ds}, ", n+1), 1),
				"web":  docs(hookOf("slow", "1", preSync), hookOf("clean", "1", syncFail)),
			})
			s.until("web", "cleaning up", func(fleet.AppStatus) bool { return s.cluster.there(jobRef("clean")) })
		})
	}
}
