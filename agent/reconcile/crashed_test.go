package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// sentAlready is an object that an agent applied before it crashed: it is ours in
// every field, and nobody wrote down that it was sent.
func (c *cluster) sentAlready(ref fleet.ObjectRef, was, is string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.objects[key(ref)]
	o.content, o.ours = strings.Replace(o.content, was, is, 1), true
	c.objects[key(ref)] = o
}

// ownAll notes in an object that all of it is ours.
func ownAll(u *unstructured.Unstructured) {
	fields := map[string]any{}
	for k := range u.Object {
		fields["f:"+k] = map[string]any{}
	}
	_ = unstructured.SetNestedSlice(u.Object, []any{map[string]any{ // metadata is an object
		"manager": inventory.FieldManager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields,
	}}, "metadata", "managedFields")
}

func (c *cluster) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// crashed is a spoke that ended in the middle of applying the second content of
// an app of two objects, and starts again. Until release, Git does not answer.
func crashed(t *testing.T) (s *spoke, release func()) {
	t.Helper()
	s = newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b")}, nil)
	s.synced("web")
	s.synced("root")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.files["web"] = configMaps("2", "a", "b")
	s.cluster.sentAlready(configMap("a"), `"1"`, `"2"`)
	s.repo.mu.Lock()
	s.start()
	return s, s.repo.mu.Unlock
}

func (s *spoke) shown(name string) {
	s.t.Helper()
	s.until(name, "shown", func(a fleet.AppStatus) bool { return a.App != "" })
}

// eventually waits for what no status tells.
func (s *spoke) eventually(what string, ok func() bool) {
	s.t.Helper()
	limit, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("not %s", what)
		}
	}
}

func TestWhatWasSentBeforeACrashIsNotTakenBack(t *testing.T) {
	s, release := crashed(t)
	before := s.cluster.requests()
	s.shown("web")
	if got := s.cluster.content(configMap("a")); !strings.Contains(got, `"2"`) || s.cluster.requests() != before {
		t.Errorf("Git was not read yet, and %s was sent", got)
	}
	release()
	s.until("web", "at the second content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("b")), `"2"`)
	})
	if got := s.cluster.content(configMap("a")); !strings.Contains(got, `"2"`) {
		t.Errorf("synced, and what runs is %s", got)
	}
}

func TestWhatWasSentBeforeACrashIsTakenBackWhereGitSaysSo(t *testing.T) {
	s, release := crashed(t)
	s.shown("web")
	s.repo.files["web"] = configMaps("1", "a", "b") // as it was
	release()
	s.until("web", "at the first content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("a")), `"1"`)
	})
}

func TestWhatWasSentBeforeACrashIsTakenBackWhileGitIsAway(t *testing.T) {
	s, release := crashed(t)
	s.shown("web")
	s.repo.err = errors.New("no route to the Git server")
	release()
	s.eventually("as it was applied last", func() bool { return strings.Contains(s.cluster.content(configMap("a")), `"1"`) })
}

func TestDriftIsHealedWhileGitWasNotReadYet(t *testing.T) {
	s, release := crashed(t)
	defer release()
	s.shown("web")
	s.cluster.edit(configMap("b"), strings.Replace(s.cluster.content(configMap("b")), `"1"`, `"9"`, 1))
	s.eventually("healed", func() bool { return strings.Contains(s.cluster.content(configMap("b")), `"1"`) })
}

// pruned is a spoke whose agent crashed when it had pruned an object, and before
// it wrote that down; somebody may have taken the name since.
func pruned(t *testing.T, by string, others ...string) (s *spoke, release func()) {
	t.Helper()
	s = newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", append(others, "a", "b")...)},
		func(c *reconcile.Config) { c.Guard = inventory.Guard{MaxObjects: 1, MaxPercent: 100} })
	s.synced("web")
	s.synced("root")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.files["web"] = configMaps("1", "a")
	s.cluster.mu.Lock()
	delete(s.cluster.objects, key(configMap("b")))
	if by != "" {
		s.cluster.objects[key(configMap("b"))] = live{uid: by, content: configMapOf(by), app: app("web")}
	}
	s.cluster.mu.Unlock()
	s.repo.mu.Lock()
	s.start()
	return s, s.repo.mu.Unlock
}

func configMapOf(text string) string {
	return `{"apiVersion":"v1","data":{"value":"` + text + `"},"kind":"ConfigMap","metadata":{"name":"b","namespace":"shop"}}`
}

func TestWhatWasPrunedBeforeACrashIsNotCreatedAnew(t *testing.T) {
	s, release := pruned(t, "")
	before := s.cluster.requests()
	s.shown("web")
	release()
	s.until("web", "without it", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
	if s.cluster.there(configMap("b")) || s.cluster.requests() != before {
		t.Error("it was created anew")
	}
}

func TestWhatSomebodyElseMadeUnderAPrunedNameIsLeftAlone(t *testing.T) {
	s, release := pruned(t, "somebody else")
	s.shown("web")
	release()
	s.until("web", "without it", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
	if got := s.cluster.content(configMap("b")); got != configMapOf("somebody else") {
		t.Errorf("it is now %q", got)
	}
}

// The next plan is another one, and waits for a person.
func TestWhatSomebodyElseMadeUnderANameWhosePruneWaitsIsLeftAlone(t *testing.T) {
	s, release := pruned(t, "somebody else", "c")
	s.shown("web")
	release()
	waits := s.because("web", "WaitsForConfirmation")
	s.cluster.touch(configMap("b"))
	s.cluster.edit(configMap("a"), "")
	s.eventually("healed all the same", func() bool { return s.cluster.there(configMap("a")) })
	if got := s.cluster.content(configMap("b")); got != configMapOf("somebody else") {
		t.Errorf("while its prune waits it is %q", got)
	}
	s.told.note(func() { s.told.confirmed[app("web")] = waits.Pending.Plan })
	s.engine.AppSeen(app("web"))
	s.until("web", "without them", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
	if got := s.cluster.content(configMap("b")); got != configMapOf("somebody else") {
		t.Errorf("when its prune is done it is %q", got)
	}
}

// The change that gives the name up can't be carried out just now.
func TestWhatSomebodyElseMadeUnderAPrunedNameIsLeftAloneWhileTheChangeFails(t *testing.T) {
	s, release := pruned(t, "somebody else")
	s.shown("web")
	s.repo.files["web"] = configMaps("2", "a")
	s.cluster.refuse("a", true)
	release()
	s.because("web", "ApplyFailed")
	s.lookedAt("web", configMap("b"))
	s.cluster.refuse("a", false)
	s.push(map[string]string{"root": rootOf("web") + "# look again\n"})
	s.until("web", "without it", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
	if got := s.cluster.content(configMap("b")); got != configMapOf("somebody else") {
		t.Errorf("it is now %q", got)
	}
}

// Git will say whether the name was given up; until then it is told, and left.
func TestWhatSomebodyElseMadeUnderANameIsLeftAloneWhileGitIsAway(t *testing.T) {
	s, release := pruned(t, "somebody else")
	s.shown("web")
	s.repo.err = errors.New("no route to the Git server")
	release()
	drifted := s.until("web", "drifted", func(a fleet.AppStatus) bool { return len(a.Drift) == 1 })
	if drifted.Drift[0].Object.Name != "b" || s.cluster.content(configMap("b")) != configMapOf("somebody else") {
		t.Errorf("%+v, and it is now %q", drifted.Drift, s.cluster.content(configMap("b")))
	}
	s.repo.fail(nil)
	s.repo.mu.Lock()
	s.repo.files["web"] = configMaps("1", "a", "b")
	s.repo.mu.Unlock()
	s.push(nil)
	s.until("web", "as in Git", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && s.cluster.content(configMap("b")) != configMapOf("somebody else")
	})
}

func TestWhatIsBeingPrunedIsNotCreatedAnew(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")}, nil)
	s.synced("web")
	s.synced("root") // which sends App objects
	before := s.cluster.requests()
	s.cluster.refuse("b", true)
	s.memory.fail(errors.New("the API server is away")) // nor can it be noted that a is gone
	s.push(map[string]string{"web": configMaps("1", "c")})
	s.because("web", "ApplyFailed")
	s.cluster.edit(configMap("a"), "") // a watch tells of its end
	s.memory.fail(nil)
	s.cluster.refuse("b", false)
	s.until("web", "without them", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
	if s.cluster.requests() != before {
		t.Error("what was pruned was created anew")
	}
}

func TestWhatWasBeingPrunedIsCreatedAnewIfItIsWantedAgain(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")}, nil)
	s.synced("web")
	s.cluster.refuse("b", true)
	s.memory.fail(errors.New("the API server is away"))
	s.push(map[string]string{"web": configMaps("1", "c")})
	s.because("web", "ApplyFailed")
	s.memory.fail(nil)
	s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
	s.eventually("there again", func() bool { return s.cluster.there(configMap("a")) })
	s.synced("web")
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func TestWhatWasSentAndCouldNotBeNotedIsNotTakenBack(t *testing.T) {
	s, before := unnoted(t)
	s.cluster.seen(watch.Event{Ref: configMap("a")}) // which is not as it was noted
	s.eventually("tried again", func() bool { return s.cluster.requests() >= before+4 })
	s.memory.fail(nil)
	s.until("web", "noted", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("a")), `"2"`)
	})
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, sent := range s.cluster.history[before:] {
		if strings.Contains(sent, `"1"`) {
			t.Errorf("it was put back to %s", sent)
		}
	}
}

func TestWhatWasSentAndCouldNotBeNotedIsTakenBackWhereGitSaysSo(t *testing.T) {
	s, _ := unnoted(t)
	s.memory.fail(nil)
	s.push(map[string]string{"web": configMaps("1", "a", "c")})
	s.eventually("as it was", func() bool { return strings.Contains(s.cluster.content(configMap("a")), `"1"`) })
}

// unnoted is a spoke that sent the second content of an object, took another one
// away, and could note neither. It gives how many objects were sent before.
func unnoted(t *testing.T) (*spoke, int) {
	t.Helper()
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")}, nil)
	s.synced("web")
	s.synced("root") // which sends App objects
	before := s.cluster.requests()
	s.memory.fail(errors.New("the API server is away"))
	s.push(map[string]string{"web": configMaps("2", "a", "c")})
	s.eventually("done", func() bool { return s.cluster.requests() >= before+2 && !s.cluster.there(configMap("b")) })
	s.cluster.sentAlready(configMap("a"), "", "")
	return s, before
}

// The agent ended after it had sent b and noted that, and before it noted what was
// applied in all; then somebody deleted b, and Git went on.
func TestWhatWasSentBeforeACrashAndDeletedSinceIsMadeAnew(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b")}, nil)
	s.synced("web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	all, err := s.memory.LoadApps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if a.Name != app("web") {
			continue
		}
		objects, err := a.Applied()
		if err != nil {
			t.Fatal(err)
		}
		a.Digest = "sha256:of what was before"
		if err := a.SetObjects(slices.DeleteFunc(objects, func(o unit.Object) bool { return o.Ref.Name == "b" })); err != nil {
			t.Fatal(err)
		}
		if err := s.memory.SaveApp(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	s.cluster.mu.Lock()
	delete(s.cluster.objects, key(configMap("b")))
	s.cluster.mu.Unlock()
	s.repo.files["web"] = strings.Replace(configMaps("1", "a", "b"), `"1"`, `"2"`, 1)
	s.repo.mu.Lock()
	s.start()
	s.eventually("looked at before Git was read", func() bool { return s.cluster.did("get ConfigMap b") != "" })
	s.repo.mu.Unlock()
	s.until("web", "whole", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && s.cluster.content(configMap("b")) != ""
	})
}

// The next change does not have it any more, and waits for a person, or is refused.
func TestWhatWasSentBeforeACrashIsNotTakenBackWhereItsPruneWaits(t *testing.T) {
	for reason, next := range map[string]string{
		"WaitsForConfirmation": configMaps("1", "a"),
		"ApplyFailed":          docs(configMaps("1", "a", "b"), configMaps("refuse", "d")),
		"WaitsForHook":         docs(configMaps("1", "a", "b"), hookOf("slow", "1", preSync)),
	} {
		t.Run(reason, func(t *testing.T) {
			files := map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c")}
			s := newSpoke(t, files, func(c *reconcile.Config) { c.Guard = inventory.Guard{MaxObjects: 1, MaxPercent: 100} })
			s.synced("web")
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			s.repo.files["web"] = next
			s.cluster.sentAlready(configMap("c"), `"value":"1"`, `"value":"2"`)
			s.cluster.ills("slow")
			s.start()
			s.because("web", reason)
			s.lookedAt("web", configMap("c"))
			if got := s.cluster.content(configMap("c")); !strings.Contains(got, `"value":"2"`) {
				t.Errorf("it is %s", got)
			}
			s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
			s.eventually("taken back where Git says so", func() bool { return strings.Contains(s.cluster.content(configMap("c")), `"value":"1"`) })
			s.synced("web")
		})
	}
}

// What comes before it in the next change is not well, or a person has to confirm.
func TestWhatWasSentBeforeACrashIsNotTakenBackWhileTheNextChangeWaits(t *testing.T) {
	for reason, next := range map[string]string{
		"WaitsForWave":         docs(inWave("early", "0", "2"), inWave("late", "1", "2"), configMaps("1", "b", "c")),
		"WaitsForConfirmation": docs(inWave("early", "0", "2"), inWave("late", "1", "2")),
	} {
		t.Run(reason, func(t *testing.T) {
			files := map[string]string{"root": rootOf("web"), "web": docs(inWave("early", "0", "1"), inWave("late", "1", "1"), configMaps("1", "b", "c"))}
			s := newSpoke(t, files, func(c *reconcile.Config) { c.Guard = inventory.Guard{MaxObjects: 1, MaxPercent: 100} })
			s.synced("web")
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			s.repo.files["web"] = next
			s.cluster.sentAlready(configMap("late"), `"value":"1"`, `"value":"2"`)
			s.cluster.ills("early")
			s.start()
			s.because("web", reason)
			s.lookedAt("web", configMap("late"))
			if got := s.cluster.content(configMap("late")); !strings.Contains(got, `"value":"2"`) {
				t.Errorf("it is %s", got)
			}
		})
	}
}
