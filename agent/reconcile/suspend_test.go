package reconcile_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func suspendedRoot() string {
	return strings.Replace(rootOf("web"), "source:", "suspend: true, source:", 1)
}

func TestASuspendedAppIsLeftAsItIsUntilItGoesOn(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b")}, nil)
	s.synced("web")
	s.push(map[string]string{"root": suspendedRoot()})
	got := s.because("web", "Suspended")
	if got.Sync != fleet.Synced {
		t.Errorf("what is known of it is lost: %+v", got)
	}
	renders := len(s.repo.renders)

	// A commit is not rendered, and what people change is reported only.
	s.push(map[string]string{"web": configMaps("2", "a")})
	edited := strings.ReplaceAll(s.cluster.content(configMap("a")), `"1"`, `"by hand"`)
	s.cluster.edit(configMap("a"), edited)
	s.until("web", "drifted", func(a fleet.AppStatus) bool {
		return a.Reason == "Suspended" && len(a.Drift) == 1 && strings.Contains(a.Message, "ConfigMap shop/a was changed")
	})
	if s.cluster.content(configMap("a")) != edited || !s.cluster.there(configMap("b")) {
		t.Error("something was healed, applied or pruned")
	}
	s.repo.mu.Lock()
	for _, path := range s.repo.renders[renders:] {
		if path == "web" {
			t.Error("it was rendered")
		}
	}
	s.repo.mu.Unlock()

	s.push(map[string]string{"root": rootOf("web")})
	s.until("web", "going on", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && a.Reason == "Healthy" && strings.Contains(s.cluster.content(configMap("a")), `"2"`) && !s.cluster.there(configMap("b"))
	})
}

func TestWhatWasChangedWhileAnAppWasSuspendedIsHealedWhenItGoesOn(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
	s.synced("web")
	s.push(map[string]string{"root": suspendedRoot()})
	s.because("web", "Suspended")
	s.cluster.edit(configMap("a"), strings.ReplaceAll(s.cluster.content(configMap("a")), `"1"`, `"by hand"`))
	s.until("web", "drifted", func(a fleet.AppStatus) bool { return len(a.Drift) == 1 })
	s.push(map[string]string{"root": rootOf("web")})
	s.until("web", "healed", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && a.Reason == "Healthy" && strings.Contains(s.cluster.content(configMap("a")), `"value":"1"`)
	})
}

func TestASuspendedAppIsNotReadyAndNeitherMovingNorStalled(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": suspendedRoot(), "web": configMaps("1", "a")}, nil)
	for _, c := range s.conditions("web", "Suspended") {
		if c.Status != metav1.ConditionFalse {
			t.Errorf("%+v", c)
		}
	}
	if s.cluster.there(configMap("a")) {
		t.Error("it was applied")
	}
}

// conditions are those of an App, once they give a reason.
func (s *spoke) conditions(name, reason string) []metav1.Condition {
	s.t.Helper()
	var found []metav1.Condition
	s.until(name, "told on the App", func(fleet.AppStatus) bool {
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		found = s.told.objects[app(name)].Conditions
		return len(found) > 0 && found[0].Reason == reason
	})
	return found
}

func TestAnAppThatIsSuspendedInGitStaysSoOverARestart(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
	s.synced("web")
	s.push(map[string]string{"root": suspendedRoot()})
	s.because("web", "Suspended")
	edited := strings.ReplaceAll(s.cluster.content(configMap("a")), `"1"`, `"by hand"`)
	for _, failure := range []error{nil, errors.New("no route to host")} {
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s.repo.fail(failure)
		s.cluster.edit(configMap("a"), edited)
		s.start()
		s.until("web", "drifted", func(a fleet.AppStatus) bool { return a.Reason == "Suspended" && len(a.Drift) == 1 })
		if s.cluster.content(configMap("a")) != edited {
			t.Error("it was healed")
		}
	}
}
