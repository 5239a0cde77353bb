package reconcile_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// meter writes down what it is told.
type meter struct {
	mu      sync.Mutex
	steps   []reconcile.Step
	open    map[reconcile.Phase]int
	failed  map[reconcile.Phase]int
	drifted int
	healed  int
}

func newMeter() *meter {
	return &meter{open: map[reconcile.Phase]int{}, failed: map[reconcile.Phase]int{}}
}

type stepKey struct{}

func (m *meter) Begin(ctx context.Context, s reconcile.Step) (context.Context, func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = append(m.steps, s)
	m.open[s.Phase]++
	if within, ok := ctx.Value(stepKey{}).(reconcile.Step); ok && within.App != s.App {
		m.failed[s.Phase]++ // a step of another app
	}
	return context.WithValue(ctx, stepKey{}, s), func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.open[s.Phase]--
		if err != nil {
			m.failed[s.Phase]++
		}
	}
}

func (m *meter) Drifted(fleet.AppName) { m.mu.Lock(); m.drifted++; m.mu.Unlock() }
func (m *meter) Healed(fleet.AppName)  { m.mu.Lock(); m.healed++; m.mu.Unlock() }

// of gives the steps of an app in a phase.
func (m *meter) of(name string, p reconcile.Phase) (out []reconcile.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.steps {
		if s.App == app(name) && s.Phase == p {
			out = append(out, s)
		}
	}
	return out
}

// metered is a spoke whose engine tells a meter.
func metered(t *testing.T, files map[string]string) (*spoke, *meter) {
	t.Helper()
	s := newSpoke(t, map[string]string{"root": rootOf()}, nil)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	m := newMeter()
	s.parts = func(p *reconcile.Parts) { p.Meter = m }
	s.start()
	s.push(files)
	return s, m
}

func TestEachPhaseIsTold(t *testing.T) {
	s, m := metered(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")})
	s.synced("web")
	s.push(map[string]string{"web": configMaps("2", "a", "b")})
	after := s.until("web", "at two objects", func(a fleet.AppStatus) bool { return a.Objects == 2 && a.Sync == fleet.Synced })
	s.cluster.edit(configMap("a"), strings.Replace(s.cluster.content(configMap("a")), `"2"`, `"3"`, 1))
	s.until("web", "healed", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("a")), `"2"`) })
	s.push(map[string]string{"web": configMaps("refuse", "a", "b")})
	s.because("web", "ApplyFailed")
	s.until("web", "told on its App", func(fleet.AppStatus) bool {
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		return s.told.objects[app("web")].Sync != ""
	})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}

	count := map[reconcile.Phase]int{}
	for _, p := range reconcile.Phases {
		count[p] = len(m.of("web", p))
	}
	if count[reconcile.PhaseRender] != 3 || count[reconcile.PhaseApply] < 2 || count[reconcile.PhasePrune] != 1 || count[reconcile.PhaseHeal] != 1 || count[reconcile.PhaseGate] < 3 {
		t.Errorf("steps by phase: %v", count)
	}
	if count[reconcile.PhaseReconcile] < 4 || count[reconcile.PhaseStatus] < 1 || count[reconcile.PhaseCheck] < 2 {
		t.Errorf("steps by phase: %v", count)
	}
	sent := 0
	for _, s := range m.of("web", reconcile.PhaseApply) {
		sent += s.Objects
	}
	if sent < 5 { // three, and two of which the first may have gone alone
		t.Errorf("%d objects were sent", sent)
	}
	if s := m.of("web", reconcile.PhaseRender)[1]; s.Path != "web" || s.Revision != after.Revision {
		t.Errorf("rendered: %+v, the revision is %s", s, after.Revision)
	}
	if s := m.of("web", reconcile.PhaseApply)[1]; s.Digest != after.Digest || s.Revision != after.Revision {
		t.Errorf("applied: %+v, the digest is %s", s, after.Digest)
	}
	if s := m.of("web", reconcile.PhaseGate); !slices.ContainsFunc(s, func(s reconcile.Step) bool { return s.Digest == after.Digest && s.Revision == after.Revision }) {
		t.Errorf("at the gate: %+v, the digest is %s", s, after.Digest)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drifted != 1 || m.healed != 1 {
		t.Errorf("%d objects drifted, %d were healed", m.drifted, m.healed)
	}
	if m.failed[reconcile.PhaseCheck]+m.failed[reconcile.PhaseApply] == 0 || m.failed[reconcile.PhaseRender] != 0 {
		t.Errorf("failed: %v", m.failed)
	}
	for p, n := range m.open {
		if n != 0 {
			t.Errorf("%d steps of phase %s never ended", n, p)
		}
	}
}

func TestAPlanThatWaitsIsPreviewedOnce(t *testing.T) {
	s, m := metered(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c", "d", "e")})
	s.synced("web")
	s.push(map[string]string{"web": configMaps("1", "a")})
	s.because("web", "WaitsForConfirmation")
	if n := len(m.of("web", reconcile.PhasePreview)); n != 1 {
		t.Errorf("previewed %d times", n)
	}
}

func TestTheEngineIsMeasured(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
	status := s.synced("web")
	for _, m := range s.engine.Measure() {
		if m.App != "web" {
			continue
		}
		if m.Sync != fleet.Synced || m.Digest != status.Digest || m.Applied.IsZero() {
			t.Errorf("measured as %+v", m)
		}
		return
	}
	t.Error("web is not measured")
}
