package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// asking is an object with an annotation and a value that can't be changed.
func asking(kind, name, annotation, frozen string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: %s\nmetadata: {name: %s, namespace: shop, annotations: {%s}}\ndata: {frozen: %q}\n", kind, name, annotation, frozen)
}

const force = `capstan.dev/force: "true"`

func TestAnObjectIsRecreatedWhereForceIsSetOnIt(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", force, "1") + "\n---\n" + configMaps("1", "b")}, nil)
	s.synced("web")
	before := s.cluster.uid(configMap("a"))
	s.push(map[string]string{"web": asking("ConfigMap", "a", force, "2") + "\n---\n" + configMaps("1", "b")})
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("a")), `"2"`)
	})
	if s.cluster.uid(configMap("a")) == before {
		t.Error("it is the same object still")
	}
}

func TestAnObjectIsRecreatedWhereForceIsSetOnTheApp(t *testing.T) {
	root := strings.Replace(rootOf("web"), "source:", "sync: {force: true}, source:", 1)
	s := newSpoke(t, map[string]string{"root": root, "web": asking("ConfigMap", "a", "", "1")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": asking("ConfigMap", "a", "", "2")})
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("a")), `"2"`)
	})
}

func TestWithoutForceTheRefusalIsAnError(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", "", "1")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": asking("ConfigMap", "a", "", "2")})
	s.because("web", "ApplyFailed")
	if !strings.Contains(s.cluster.content(configMap("a")), `"1"`) {
		t.Error("what ran was touched")
	}
}

func TestARecreationWaitsForTheEndOfWhatWasThereAndBlocksNobody(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "other"), "web": asking("ConfigMap", "a", force, "1"), "other": configMaps("1", "c")}, nil)
	s.synced("web")
	s.synced("other")
	s.cluster.hold("a", true)
	s.push(map[string]string{"web": asking("ConfigMap", "a", force, "2"), "other": configMaps("2", "c")})
	s.until("web", "waiting", func(a fleet.AppStatus) bool {
		return a.Reason == "Recreating" && strings.Contains(a.Message, "ConfigMap shop/a (finalizers: [example.com/hold]) is being deleted")
	})
	s.until("other", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("c")), `"2"`)
	})

	// The agent ends in the middle, and goes on where it was.
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.because("web", "Recreating")
	s.cluster.hold("a", false)
	s.cluster.edit(configMap("a"), "") // its end
	s.until("web", "created anew", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("a")), `"2"`)
	})
}

func TestWhatIsGoingIsNotHealedToWhatItWas(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", force, "1") + "\n---\n" + asking("ConfigMap", "b", force, "1")}, nil)
	s.synced("web")
	s.cluster.hold("a", true)
	s.cluster.hold("b", true)
	s.push(map[string]string{"web": asking("ConfigMap", "a", force, "2") + "\n---\n" + asking("ConfigMap", "b", force, "2")})
	s.because("web", "Recreating")
	s.cluster.hold("a", false)
	s.cluster.edit(configMap("a"), "")
	s.until("web", "half way", func(a fleet.AppStatus) bool {
		return strings.Contains(s.cluster.content(configMap("a")), `"2"`) && !strings.Contains(a.Message, "shop/a")
	})
}

func TestWhatHoldsOthersIsRecreatedOnlyWhenAPersonConfirms(t *testing.T) {
	claim := fleet.ObjectRef{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "data"}
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking(claim.Kind, "data", force, "1")}, nil)
	s.synced("web")
	before := s.cluster.uid(claim)
	s.push(map[string]string{"web": asking(claim.Kind, "data", force, "2")})
	got := s.because("web", "WaitsForConfirmation")
	if !strings.Contains(got.Message, "PersistentVolumeClaim shop/data would be deleted and created anew") {
		t.Errorf("it says %q", got.Message)
	}
	if got.Pending == nil || got.Pending.Summary.Recreate != 1 {
		t.Fatalf("the plan does not show it: %+v", got.Pending)
	}
	if s.cluster.uid(claim) != before {
		t.Fatal("it was touched")
	}
	s.confirm("web", got.Pending.Plan)
	s.until("web", "created anew", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && s.cluster.uid(claim) != before
	})
}

func TestAnAnnotationThatIsWrongIsAnErrorThatNamesTheObject(t *testing.T) {
	for _, annotation := range []string{`capstan.dev/force: "yes"`, `capstan.dev/prune: "no"`, `capstan.dev/heal: off`, `capstan.dev/apply: Once`} {
		t.Run(annotation, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", annotation, "1")}, nil)
			got := s.because("web", "ApplyFailed")
			if !strings.Contains(got.Message, "ConfigMap shop/a: annotation capstan.dev/") || got.Hint == "" {
				t.Errorf("it says %q, hint %q", got.Message, got.Hint)
			}
			if s.cluster.there(configMap("a")) {
				t.Error("it was applied all the same")
			}
		})
	}
}

// confirm is a person who annotates an App with a plan.
func (s *spoke) confirm(name, plan string) {
	s.told.note(func() { s.told.confirmed[app(name)] = plan })
	s.engine.AppSeen(app(name))
}
