package reconcile_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func rootOf(apps ...string) string {
	var docs []string
	for _, name := range apps {
		docs = append(docs, fmt.Sprintf("apiVersion: capstan.dev/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {source: {path: %[1]s}}\n", name))
	}
	return strings.Join(docs, "\n---\n")
}

func forEnv(name, env string) string {
	return strings.Replace(rootOf(name), "spec: {", "spec: {clusters: {matchLabels: {env: "+env+"}}, ", 1)
}

func configMaps(value string, names ...string) string {
	var docs []string
	for _, name := range names {
		docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\ndata: {value: %q}\n", name, value))
	}
	return strings.Join(docs, "\n---\n")
}

func configMap(name string) fleet.ObjectRef {
	return fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: name}
}

func TestACommitIsAppliedAndOnlyWhatItTouchesIsRendered(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.synced("db")
	before := len(s.repo.renders)

	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "at the new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	if got := s.repo.renders[before:]; !slices.Equal(got, []string{"web"}) {
		t.Errorf("rendered %v for a commit that touches web alone", got)
	}
}

func TestANewTagHasOnlyWhatItTouchesRendered(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.synced("db")
	for _, tag := range []string{"v2", "v3", "v4"} {
		s.repo.mu.Lock()
		s.repo.ref = tag
		before := len(s.repo.renders)
		s.repo.mu.Unlock()
		s.push(map[string]string{"web": configMaps(tag, "web")})
		s.until("web", "at "+tag, func(a fleet.AppStatus) bool {
			return a.Sync == fleet.Synced && strings.HasPrefix(string(a.Revision), tag+"@") && strings.Contains(s.cluster.content(configMap("web")), tag)
		})
		s.repo.mu.Lock()
		if got := s.repo.renders[before:]; !slices.Equal(got, []string{"web"}) {
			t.Errorf("%s touches web alone, and %v were rendered", tag, got)
		}
		s.repo.mu.Unlock()
	}
}

func TestWhichManifestsOfADirectoryCountIsTheAppsToSay(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.synced("db")
	before := s.synced("web").Digest
	s.push(map[string]string{"root": strings.Replace(rootOf("web", "db"), "path: web}", "path: web, directory: {recurse: true, exclude: [tests]}}", 1)})
	s.until("web", "rendered as it says", func(fleet.AppStatus) bool {
		s.repo.mu.Lock()
		defer s.repo.mu.Unlock()
		got := s.repo.chosen["web"]
		return got != nil && got.Recurse && slices.Equal(got.Exclude, []string{"tests"})
	})
	if after := s.synced("web").Digest; after != before {
		t.Errorf("the same objects have another digest: %s, was %s", after, before)
	}
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	if got := s.repo.chosen["db"]; got != nil {
		t.Errorf("an App that says nothing asks for %+v", got)
	}
}

func TestWhatLeavesGitLeavesTheCluster(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "b"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": configMaps("1", "a")})
	s.until("web", "one object", func(a fleet.AppStatus) bool { return a.Objects == 1 })
	if s.cluster.content(configMap("b")) != "" {
		t.Error("the object that left the app is still there")
	}
	s.push(map[string]string{"root": rootOf("db")})
	s.gone("web")
	if s.cluster.content(configMap("a")) != "" {
		t.Error("the App that left Git left an object behind")
	}
}

func TestBadInputTouchesNothingAndTheMendIsPickedUp(t *testing.T) {
	good := map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "b"), "db": configMaps("1", "db")}
	manyGone := configMaps("1", "a")
	for _, tt := range []struct {
		name, file, text string
		app, reason      string
		message          string
	}{
		{"unparsable YAML", "web", configMaps("2", "a", "b") + "not: [valid", "web", "RenderFailed", "web"},
		{"a path that is gone", "web", "", "web", "RenderFailed", "web: not there"},
		{"an object the API server refuses", "web", configMaps("2", "a") + "\n---\n" + configMaps("refuse", "b"), "web", "ApplyFailed", "ConfigMap shop/b"},
		{"an object that another app has", "web", manyGone + "\n---\n" + configMaps("1", "db"), "web", "ApplyFailed", "is in two apps: capstan-system/db"},
		{"an object in the agent's namespace", "web", strings.Replace(configMaps("2", "a"), "shop", "capstan-system", 1), "web", "ApplyFailed", "agent's own namespace"},
		{"an unknown field in an App", "root", strings.Replace(rootOf("web", "db"), "path: web", "pth: web", 1), "web", "InvalidSpec", "pth"},
		{"an empty render", "web", "# nothing", "web", "WaitsForConfirmation", "the render is empty"},
		{"an empty root", "root", "# nothing", "root", "WaitsForConfirmation", "the render is empty"},
		{"a root that can't be parsed", "root", "x: [", "root", "RenderFailed", "root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			maps.Copy(files, good)
			s := newSpoke(t, files, nil)
			s.synced("web")
			s.synced("db")
			a, b := s.cluster.content(configMap("a")), s.cluster.content(configMap("b"))

			s.push(map[string]string{tt.file: tt.text})
			status := s.because(tt.app, tt.reason)
			if !strings.Contains(status.Message, tt.message) {
				t.Errorf("message %q does not name %q", status.Message, tt.message)
			}
			if tt.name != "an empty root" { // there db has left Git as well, and is kept as it was
				s.push(map[string]string{"db": configMaps("2", "db")})
				s.until("db", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("db")), `"2"`) })
			}
			if s.cluster.content(configMap("a")) != a || s.cluster.content(configMap("b")) != b {
				t.Error("what ran was touched")
			}
			s.push(map[string]string{tt.file: good[tt.file]})
			s.synced(tt.app)
			s.synced("web")
		})
	}
}

func TestAnEditIsUndoneAndADeletionToo(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	good := s.cluster.content(configMap("web"))
	for _, edited := range []string{strings.Replace(good, `"1"`, `"7"`, 1), ""} {
		s.cluster.edit(configMap("web"), edited)
		s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == good })
	}
}

func TestWithoutSelfHealDriftIsReportedAlone(t *testing.T) {
	root := strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {selfHeal: false}, ", 1)
	s := newSpoke(t, map[string]string{"root": root, "web": configMaps("1", "web")}, nil)
	s.synced("web")
	edited := strings.Replace(s.cluster.content(configMap("web")), `"1"`, `"7"`, 1)
	s.cluster.edit(configMap("web"), edited)
	status := s.because("web", "Drifted")
	if status.Sync != fleet.OutOfSync || len(status.Drift) != 1 || !slices.Equal(status.Drift[0].Fields, []string{"/data/value"}) {
		t.Errorf("got %+v", status)
	}
	if s.cluster.content(configMap("web")) != edited {
		t.Error("it was put back all the same")
	}
}

func TestALabelBringsAnAppAndTakesItAway(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": forEnv("web", "dev") + "\n---\n" + rootOf("db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")},
		func(c *reconcile.Config) { c.Assignable = []string{"env"} })
	s.synced("db")
	if s.cluster.content(configMap("web")) != "" {
		t.Fatal("an app came to a cluster that it is not for")
	}
	for i, in := range []fleet.Intent{
		{Instance: "h", Revision: 1, Labels: map[string]string{"env": "dev"}},
		{Instance: "h", Revision: 2, Labels: map[string]string{}}, // absence takes nothing away
	} {
		if err := s.engine.TakeIntent(t.Context(), in); err != nil {
			t.Fatal(i, err)
		}
		s.synced("web")
	}
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 3, Removed: []string{"env"}}); err != nil {
		t.Fatal(err)
	}
	s.gone("web")
	if s.cluster.content(configMap("web")) != "" {
		t.Error("the app left an object behind")
	}
}

func TestARestartKnowsEverythingAndSendsNothing(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	sent := s.cluster.sent
	s.start()
	s.synced("web")
	if s.cluster.sent != sent {
		t.Errorf("%d objects were sent after a restart that changed nothing", s.cluster.sent-sent)
	}
}

func TestWithGitAwayARestartedAgentStillHeals(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	good := s.cluster.content(configMap("web"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.err = errors.New("no route to host")
	s.cluster.edit(configMap("web"), strings.Replace(good, `"1"`, `"7"`, 1))
	s.start()
	s.because("root", "SourceFailed")
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == good })
	s.repo.mu.Lock()
	s.repo.err = nil
	s.repo.mu.Unlock()
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	s.synced("root")
}

func TestWhatIsWrongWithAMirrorIsInTheReportAlone(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	if m := s.engine.Report().Message; m != "" {
		t.Errorf("the report says %q", m)
	}
	s.repo.mu.Lock()
	s.repo.notice = "mirror https://mirror.example.com/fleet.git is behind"
	s.repo.mu.Unlock()
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	if m := s.engine.Report().Message; m != s.repo.notice {
		t.Errorf("the report says %q", m)
	}
	s.synced("root")
}

func TestABranchThatIsHeldWaitsForAConfirmation(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	held := &unit.RewoundError{Ref: "main", From: "a", To: "b"}
	s.repo.mu.Lock()
	s.repo.err = held
	s.repo.mu.Unlock()
	s.push(map[string]string{"web": configMaps("2", "web")})
	status := s.because("root", "SourceFailed")
	if !strings.Contains(status.Message, "moved from a to b") || !strings.Contains(status.Hint, "annotate --overwrite app root capstan.dev/confirm-prune=a..b") {
		t.Errorf("the root says %q, hint %q", status.Message, status.Hint)
	}
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, `"1"`) {
		t.Errorf("what runs was touched: %s", got)
	}
	s.told.mu.Lock()
	s.told.confirmed[app("root")] = "a..b"
	s.told.mu.Unlock()
	s.engine.AppSeen(app("root"))
	s.until("web", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	s.synced("root")
}

func TestALargePruneWaitsForAConfirmation(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")},
		func(c *reconcile.Config) { c.Guard = inventory.Guard{MaxObjects: 1, MaxPercent: 100} })
	s.synced("web")
	s.push(map[string]string{"web": configMaps("1", "a")})
	status := s.because("web", "WaitsForConfirmation")
	if status.Pending == nil || status.Pending.Summary.Prune != 2 || s.cluster.content(configMap("b")) == "" {
		t.Fatalf("got %+v", status)
	}
	s.told.note(func() { s.told.confirmed[app("web")] = status.Pending.Plan })
	s.engine.AppSeen(app("web"))
	s.synced("web")
	if s.cluster.content(configMap("b")) != "" || s.cluster.content(configMap("a")) == "" {
		t.Error("the confirmed prune did something else")
	}
}

func TestAnotherAgentAtWorkEndsThisOne(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	s.memory.mu.Lock()
	s.memory.err = fleet.Conflict("somebody else wrote it")
	s.memory.mu.Unlock()
	s.push(map[string]string{"web": configMaps("2", "web")})
	if err := s.ended(); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

func TestACommitWritesWhatItTouchesAndNothingElse(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
	first := s.synced("web").Revision
	s.synced("db")
	s.synced("root")
	s.memory.mu.Lock()
	before := s.memory.writes
	s.memory.mu.Unlock()
	s.push(map[string]string{"elsewhere": "x"})
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "at the new revision", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Revision != first })
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	if got := s.memory.writes - before; got != 1 {
		t.Errorf("%d writes of state for a change of one app", got)
	}
}
