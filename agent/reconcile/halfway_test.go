package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestARevertUndoesAChangeThatFailedHalfway(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b")}, nil)
	s.synced("web")
	s.cluster.refuse("b", true)
	s.push(map[string]string{"web": configMaps("2", "a", "b")})
	s.because("web", "ApplyFailed")
	if !strings.Contains(s.cluster.content(configMap("a")), `"2"`) {
		t.Fatal("the change did not get half way")
	}
	s.cluster.refuse("b", false)
	s.push(map[string]string{"web": configMaps("1", "a", "b")})
	s.synced("web")
	if got := s.cluster.content(configMap("a")); !strings.Contains(got, `"1"`) {
		t.Errorf("synced, and what runs is %s", got)
	}
}

func TestAChangeWithAnObjectThatIsRefusedChangesNothing(t *testing.T) {
	for _, bad := range []string{"a", "b", "c"} {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")}, nil)
		s.synced("web")
		var docs []string
		for _, name := range []string{"a", "b", "c"} {
			value := "2"
			if name == bad {
				value = "refuse"
			}
			docs = append(docs, configMaps(value, name))
		}
		s.push(map[string]string{"web": strings.Join(docs, "\n---\n")})
		s.because("web", "ApplyFailed")
		for _, name := range []string{"a", "b", "c"} {
			if got := s.cluster.content(configMap(name)); !strings.Contains(got, `"1"`) {
				t.Errorf("%s was refused, and %s is %s", bad, name, got)
			}
		}
	}
}

// The one that is sent alone, before the others, is taken or refused whole.
func TestOfAChangeAllButOneObjectAreCheckedFirst(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": configMaps("2", "a", "b", "c", "d")})
	s.until("web", "changed", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 4 })
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if got := s.cluster.checked; len(got) != 3 || !slices.Contains(got, "d") {
		t.Errorf("checked %v; d is new, and of the others one goes before", got)
	}
}

func TestAKindThatComesWithItsObjectsIsWatched(t *testing.T) {
	text := "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\n---\n" +
		"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one, namespace: shop}\n"
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": text}, nil)
	s.synced("web")
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if !s.cluster.watched["Widget"] {
		t.Error("nothing watches the objects of the new kind")
	}
}

func TestAPlanThatWaitsIsShownWhileGitIsAway(t *testing.T) {
	_, line := newKey(t, alice)
	s := guarded(t, webAndRoot(), line, nil)
	s.because("web", "WaitsForApproval")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.err = errors.New("no route to the Git server")
	s.start()
	got := s.until("web", "shown", func(a fleet.AppStatus) bool { return a.App != "" })
	if got.Sync != fleet.Pending {
		t.Errorf("got %+v", got)
	}
}

func TestAnApprovalDoesNotOutliveWhatWasWantedThen(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, webAndRoot(), line, nil)
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	s.synced("web")
	s.cluster.refuse("web", true)
	s.push(map[string]string{"web": configMaps("2", "web")})
	second := s.because("web", "WaitsForApproval").Pending
	s.bring(s.sign(key, s.statement("web")))
	s.because("web", "ApplyFailed")
	s.push(map[string]string{"web": configMaps("3", "web")})
	s.because("web", "WaitsForApproval")
	s.cluster.refuse("web", false)
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "waiting anew", func(a fleet.AppStatus) bool {
		return a.Pending != nil && a.Pending.Digest == second.Digest && a.Pending.Plan != second.Plan
	})
}

func TestAnAppThatComesBackBeforeItWasGoneIsWhole(t *testing.T) {
	files := map[string]string{"root": forEnv("web", "dev"), "web": configMaps("1", "a", "b")}
	s := newSpoke(t, files, func(c *reconcile.Config) { c.Assignable = []string{"env"} })
	label := func(revision uint64, env string) {
		in := fleet.Intent{Instance: "h", Revision: revision, Labels: map[string]string{"env": env}}
		if err := s.engine.TakeIntent(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	label(1, "dev")
	s.synced("web")
	s.cluster.refuse("b", true)
	label(2, "nowhere")
	s.because("web", "ApplyFailed")
	s.cluster.refuse("b", false)
	label(3, "dev")
	s.synced("web")
	if s.cluster.content(configMap("a")) == "" {
		t.Error("synced, and an object is missing")
	}
}

func TestARemovalThatCouldNotBeNotedIsTriedAgain(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.synced("db")
	s.memory.mu.Lock()
	s.memory.busy = 1
	s.memory.mu.Unlock()
	s.push(map[string]string{"root": rootOf("db")})
	s.gone("web")
}

func TestDriftGoesWithItsObject(t *testing.T) {
	noHeal := strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {selfHeal: false}, ", 1)
	s := newSpoke(t, map[string]string{"root": noHeal, "web": configMaps("1", "a", "b")}, nil)
	s.synced("web")
	s.cluster.edit(configMap("a"), strings.Replace(s.cluster.content(configMap("a")), `"1"`, `"9"`, 1))
	s.because("web", "Drifted")
	s.push(map[string]string{"web": configMaps("1", "b")})
	s.synced("web")
}

func TestDriftIsUndoneOnceHealingIsSwitchedOn(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {selfHeal: false}, ", 1), "web": configMaps("1", "a")}, nil)
	s.synced("web")
	s.cluster.edit(configMap("a"), strings.Replace(s.cluster.content(configMap("a")), `"1"`, `"9"`, 1))
	s.because("web", "Drifted")
	s.push(map[string]string{"root": rootOf("web")})
	s.until("web", "as in Git", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("a")), `"1"`) })
}
