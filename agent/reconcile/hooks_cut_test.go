package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func (t *told) happened(event string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.events, event)
}

const cutShort = "web HookCutShort: PreSync hook Job.batch shop/migrate had not ended when a newer change came; it is deleted"

func migrating(value string) string {
	return docs(hookOf("migrate", value, preSync), configMaps(value, "plain"))
}

func TestANewCommitEndsAHookThatRunsAndBeginsItAnew(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("migrate")
	s.push(map[string]string{"root": rootOf("web"), "web": migrating("1")})
	s.until("web", "waiting", waitsForHook("migrate"))
	first := s.cluster.uid(jobRef("migrate"))
	s.push(map[string]string{"web": migrating("2")})
	s.until("web", "waiting for the new one", func(a fleet.AppStatus) bool {
		return waitsForHook("migrate")(a) && strings.Contains(s.cluster.content(jobRef("migrate")), `"2"`)
	})
	if s.cluster.uid(jobRef("migrate")) == first || !s.told.happened(cutShort) {
		t.Errorf("it was not ended, or nobody was told: %q", s.told.events)
	}
	s.cluster.becomes(jobRef("migrate"), true)
	s.synced("web")
}

func TestGoingBackEndsAHookThatRuns(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "plain")}, nil)
	s.synced("web")
	s.cluster.ills("migrate")
	s.push(map[string]string{"web": migrating("2")})
	s.until("web", "waiting", waitsForHook("migrate"))
	s.push(map[string]string{"web": configMaps("1", "plain")})
	s.until("web", "as before", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && !s.cluster.there(jobRef("migrate")) })
	if !s.told.happened(cutShort) {
		t.Errorf("nobody was told: %q", s.told.events)
	}
}

func TestAHookRunsOnWhileANewCommitWaitsForApproval(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web"), "web": migrating("1")}, line, nil)
	s.because("web", "WaitsForApproval")
	s.cluster.ills("migrate")
	s.bring(s.sign(key, s.statement("web")))
	s.until("web", "waiting for the hook", waitsForHook("migrate"))
	first := s.cluster.uid(jobRef("migrate"))
	s.push(map[string]string{"web": migrating("2")})
	s.because("web", "WaitsForApproval")
	if s.cluster.uid(jobRef("migrate")) != first || s.told.happened(cutShort) {
		t.Error("it was ended by what nobody let through yet")
	}
	s.bring(s.sign(key, s.statement("web")))
	s.until("web", "waiting for the new one", func(a fleet.AppStatus) bool {
		return waitsForHook("migrate")(a) && s.cluster.uid(jobRef("migrate")) != first
	})
	if !s.told.happened(cutShort) {
		t.Errorf("nobody was told: %q", s.told.events)
	}
	s.cluster.becomes(jobRef("migrate"), true)
	s.synced("web")
}
