package reconcile_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAnObjectThatAsksToStayStays(t *testing.T) {
	for _, annotation := range []string{
		`capstan.dev/prune: "false"`, `argocd.argoproj.io/sync-options: "Validate=false, Prune=false"`, `helm.sh/resource-policy: keep`, `kustomize.toolkit.fluxcd.io/prune: disabled`,
	} {
		t.Run(annotation, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", annotation, "1") + "\n---\n" + configMaps("1", "b", "c")}, nil)
			s.synced("web")
			s.push(map[string]string{"web": configMaps("1", "c")})
			s.until("web", "one less", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
			if !s.cluster.there(configMap("a")) || s.cluster.there(configMap("b")) {
				t.Error("not what asked to stay stayed, or not that alone")
			}
		})
	}
}

func TestAnObjectThatAsksToStayOutlivesItsApp(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "rest"), "rest": configMaps("1", "z"), "web": asking("ConfigMap", "a", `capstan.dev/prune: "false"`, "1") + "\n---\n" + configMaps("1", "b")}, nil)
	s.synced("web")
	s.push(map[string]string{"root": rootOf("rest")})
	s.gone("web")
	if !s.cluster.there(configMap("a")) || s.cluster.there(configMap("b")) {
		t.Error("not what asked to stay stayed, or not that alone")
	}
	// It is nobody's now: another app may have it.
	s.push(map[string]string{"rest": configMaps("1", "z") + "\n---\n" + asking("ConfigMap", "a", "", "1")})
	s.until("rest", "having both", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 2 })
}

func TestAnObjectThatIsNotToBeHealedIsReportedOnly(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", `capstan.dev/heal: "false"`, "1") + "\n---\n" + configMaps("1", "b")}, nil)
	s.synced("web")
	edited := strings.Replace(s.cluster.content(configMap("a")), `"1"`, `"by hand"`, 1)
	s.cluster.edit(configMap("a"), edited)
	s.cluster.edit(configMap("b"), strings.ReplaceAll(s.cluster.content(configMap("b")), `"1"`, `"by hand"`))
	s.until("web", "drifted, and the other healed", func(a fleet.AppStatus) bool {
		return len(a.Drift) == 1 && a.Drift[0].Object.Name == "a" && strings.Contains(s.cluster.content(configMap("b")), `"value":"1"`)
	})
	if s.cluster.content(configMap("a")) != edited {
		t.Error("it was put back")
	}
}

func TestAnObjectThatIsAppliedIfAbsentIsNeverChanged(t *testing.T) {
	for _, annotation := range []string{`capstan.dev/apply: IfAbsent`, `kustomize.toolkit.fluxcd.io/ssa: IfNotPresent`} {
		t.Run(annotation, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", annotation, "1") + "\n---\n" + configMaps("1", "b")}, nil)
			s.synced("web")
			edited := strings.Replace(s.cluster.content(configMap("a")), `"1"`, `"by hand"`, 1)
			s.cluster.edit(configMap("a"), edited)
			s.push(map[string]string{"web": asking("ConfigMap", "a", annotation, "2") + "\n---\n" + configMaps("2", "b")})
			s.until("web", "at the new content", func(a fleet.AppStatus) bool {
				return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("b")), `"2"`)
			})
			if got := s.cluster.content(configMap("a")); got != edited {
				t.Errorf("it was changed: %s", got)
			}
			s.cluster.edit(configMap("a"), "")
			s.until("web", "created anew", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("a")), `"2"`) })
		})
	}
}

func TestWhatWasThereBeforeItsAppIsNeitherChangedNorPruned(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	const theirs = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop"},"data":{"x":"theirs"}}`
	s.cluster.edit(configMap("a"), theirs)
	s.push(map[string]string{"root": rootOf("web"), "web": asking("ConfigMap", "a", `capstan.dev/apply: IfAbsent`, "1") + "\n---\n" + configMaps("1", "b")})
	s.until("web", "well", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Health == fleet.Healthy })
	s.push(map[string]string{"web": configMaps("1", "b")})
	s.until("web", "one less", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
	if got := s.cluster.content(configMap("a")); got != theirs {
		t.Errorf("it is %q", got)
	}
}
