package reconcile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ending is a root with one app, and what becomes of it when it goes.
func ending(name, spec string) string {
	return strings.Replace(rootOf(name), "spec: {", "spec: {"+spec+", ", 1)
}

func TestWhatBecomesOfAnAppsObjectsWhenItGoes(t *testing.T) {
	for name, c := range map[string]struct {
		spec     string
		stays    bool
		confirms bool
	}{
		"nothing is said":        {"suspend: false", false, false},
		"Prune":                  {"deletionPolicy: Prune", false, false},
		"Orphan":                 {"deletionPolicy: Orphan", true, false},
		"Confirm":                {"deletionPolicy: Confirm", false, true},
		"it prunes nothing":      {"sync: {prune: false}", true, false},
		"it does when it goes":   {"sync: {prune: false}, deletionPolicy: Prune", false, false},
		"it prunes, but not all": {"sync: {prune: true}, deletionPolicy: Orphan", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": ending("web", c.spec), "web": configMaps("1", "a", "b"), "db": configMaps("1", "db")}, nil)
			s.synced("web")
			s.push(map[string]string{"root": rootOf("db")})
			if c.confirms {
				got := s.because("web", "WaitsForConfirmation")
				if got.Pending == nil || got.Pending.Summary.Prune != 2 || !strings.Contains(got.Message, "spec.deletionPolicy is Confirm: 2 objects would be pruned") {
					t.Fatalf("got %+v", got)
				}
				if !s.cluster.there(configMap("a")) {
					t.Fatal("it was pruned before anybody confirmed it")
				}
				s.told.note(func() { s.told.confirmed[app("web")] = got.Pending.Plan })
				s.engine.AppSeen(app("web"))
			}
			s.gone("web")
			for _, ref := range []fleet.ObjectRef{configMap("a"), configMap("b")} {
				if s.cluster.there(ref) != c.stays {
					t.Errorf("%s is there: %v", ref, !c.stays)
				}
				if c.stays && s.cluster.holder(ref) != (fleet.AppName{}) {
					t.Errorf("%s says still that it is an app's", ref)
				}
			}
		})
	}
}

func TestWhatAnAppSaysOfItsEndCountsThoughItsChangeFails(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.push(map[string]string{"root": ending("web", "deletionPolicy: Orphan"), "web": "broken: ["})
	s.because("web", "RenderFailed")
	s.push(map[string]string{"root": rootOf("db")})
	s.gone("web")
	if !s.cluster.there(configMap("a")) {
		t.Error("it was pruned all the same")
	}
}

func TestAnAppIsTakenAwayInItsWavesBackwards(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": inWaves("1"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.cluster.hold("late", true)
	s.push(map[string]string{"root": rootOf("db")})
	got := s.because("web", "Removing")
	if !strings.Contains(got.Message, "ConfigMap shop/late (finalizers: [example.com/hold]) is being deleted") || got.Sync != fleet.OutOfSync {
		t.Errorf("got %+v", got)
	}
	if !s.cluster.there(configMap("plain")) || !s.cluster.there(configMap("early")) {
		t.Error("an earlier wave went before its time")
	}
	s.cluster.hold("late", false)
	s.cluster.hold("plain", true)
	s.cluster.touch(configMap("late"))
	s.until("web", "at the next wave", func(a fleet.AppStatus) bool { return strings.Contains(a.Message, "ConfigMap shop/plain (") })
	if s.cluster.there(configMap("late")) || !s.cluster.there(configMap("early")) {
		t.Error("the waves went in another order")
	}
	s.cluster.hold("plain", false)
	s.cluster.touch(configMap("plain"))
	s.gone("web")
	if s.cluster.there(configMap("early")) {
		t.Error("the first wave was forgotten")
	}
}

func TestWhatIsBeingTakenAwayIsNotHealedAndItsEndSurvivesARestart(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": inWaves("1"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.cluster.hold("plain", true)
	s.push(map[string]string{"root": rootOf("db")})
	s.because("web", "Removing")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.err = errors.New("no route to the Git server")
	s.cluster.mu.Lock()
	delete(s.cluster.objects, key(configMap("early"))) // somebody else was quicker
	s.cluster.mu.Unlock()
	s.start()
	s.because("root", "SourceFailed")
	s.disturbNothing("web")
	if s.cluster.there(configMap("early")) || s.cluster.there(configMap("late")) {
		t.Error("what was on its way out was put back")
	}
	s.repo.mu.Lock()
	s.repo.err = nil
	s.repo.mu.Unlock()
	s.cluster.hold("plain", false)
	s.push(map[string]string{"elsewhere": "x"})
	s.gone("web")
	if s.cluster.there(configMap("plain")) {
		t.Error("it was forgotten on its way out")
	}
}

// disturbNothing has the agent look at an app's objects, and waits until it has.
func (s *spoke) disturbNothing(name string) {
	s.t.Helper()
	s.cluster.touch(configMap("plain"))
	s.engine.AppSeen(app(name))
	s.until(name, "shown", func(a fleet.AppStatus) bool { return a.App != "" })
}

func TestAnAppThatComesBackOnItsWayOutIsWholeAgain(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": inWaves("1"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.cluster.hold("plain", true)
	s.push(map[string]string{"root": rootOf("db")})
	s.because("web", "Removing")
	s.cluster.hold("plain", false)
	s.push(map[string]string{"root": rootOf("web")})
	s.synced("web")
	for _, name := range []string{"early", "plain", "late"} {
		if !s.cluster.there(configMap(name)) {
			t.Errorf("%s is not there", name)
		}
	}
	good := s.cluster.content(configMap("early"))
	s.cluster.edit(configMap("early"), strings.Replace(good, `"1"`, `"7"`, 1))
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("early")) == good })
}

func TestWhatLeavesAnAppGoesInItsWavesBackwards(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": inWaves("1") + "\n---\n" + configMaps("1", "a", "b", "c")}, nil)
	s.synced("web")
	s.cluster.hold("late", true)
	s.push(map[string]string{"web": configMaps("2", "a", "b", "c")})
	got := s.because("web", "Pruning")
	if !strings.Contains(got.Message, "ConfigMap shop/late (finalizers: [example.com/hold]) is being deleted") {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(s.cluster.content(configMap("a")), `"2"`) {
		t.Error("what stays waits for what goes")
	}
	if !s.cluster.there(configMap("plain")) || !s.cluster.there(configMap("early")) {
		t.Error("an earlier wave went before its time")
	}
	s.cluster.hold("late", false)
	s.cluster.touch(configMap("late"))
	s.synced("web")
	for _, name := range []string{"early", "plain", "late"} {
		if s.cluster.there(configMap(name)) {
			t.Errorf("%s is there still", name)
		}
	}
}

func TestWhatStaysWhenItLeavesIsNobodysThen(t *testing.T) {
	stays := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stays, namespace: shop, annotations: {" + inventory.PruneAnnotation + ": \"false\"}}\n"
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": stays + "\n---\n" + configMaps("1", "a")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": configMaps("1", "a")})
	s.until("web", "without it", func(a fleet.AppStatus) bool { return a.Objects == 1 })
	if !s.cluster.there(configMap("stays")) || s.cluster.holder(configMap("stays")) != (fleet.AppName{}) {
		t.Error("it is not there, or says still that it is the app's")
	}
}
