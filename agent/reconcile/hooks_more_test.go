package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestSyncHooksRunWithTheWaves(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("with", "alone")
	s.push(map[string]string{"root": rootOf("web"), "web": docs(
		configMaps("1", "plain"), hookOf("with", "1", "capstan.dev/hook: Sync"), hookOf("alone", "1", "capstan.dev/hook: Sync", `capstan.dev/wave: "1"`), inWave("late", "2", "1"))})
	s.until("web", "waiting for the hook of wave 0", waitsForHook("Sync hook Job.batch shop/with"))
	if !s.cluster.there(configMap("plain")) || s.cluster.there(jobRef("alone")) {
		t.Error("a Sync hook comes with the objects of its wave")
	}
	s.cluster.becomes(jobRef("with"), true)
	s.until("web", "waiting for the hook of wave 1", waitsForHook("Sync hook Job.batch shop/alone"))
	if s.cluster.there(configMap("late")) {
		t.Error("a wave came before a hook of an earlier one had ended")
	}
	s.cluster.becomes(jobRef("alone"), true)
	s.synced("web")
}

func TestPoliciesSayWhatBecomesOfAHook(t *testing.T) {
	succeeded, failed := "capstan.dev/hook-delete-policy: HookSucceeded", "capstan.dev/hook-delete-policy: HookFailed"
	account := strings.Replace(hookOf("account", "1", preSync, `capstan.dev/wave: "-1"`, succeeded), "apiVersion: batch/v1\nkind: Job", "apiVersion: v1\nkind: ServiceAccount", 1)
	accountRef := fleet.ObjectRef{Version: "v1", Kind: "ServiceAccount", Namespace: "shop", Name: "account"}
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("goes")
	s.push(map[string]string{"root": rootOf("web"), "web": docs(account, hookOf("goes", "1", preSync, succeeded), hookOf("stays", "1", preSync, failed), configMaps("1", "plain"))})
	s.until("web", "waiting", waitsForHook("goes"))
	if !s.cluster.there(accountRef) {
		t.Error("what a hook needs went before the hook had ended")
	}
	s.cluster.becomes(jobRef("goes"), true)
	s.synced("web")
	if s.cluster.there(jobRef("goes")) || s.cluster.there(accountRef) || !s.cluster.there(jobRef("stays")) {
		t.Error("what succeeded is deleted where its policy says so, and only there")
	}

	s.cluster.mu.Lock()
	s.cluster.failed["stays"] = true
	s.cluster.mu.Unlock()
	s.push(map[string]string{"web": docs(hookOf("stays", "2", preSync, failed), configMaps("2", "plain"))})
	s.because("web", "HookFailed")
	if s.cluster.there(jobRef("stays")) {
		t.Error("what failed is there still")
	}
}

// An object in two phases runs twice.
func TestAHookOfTwoPhasesRunsInEach(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": docs(hookOf("both", "1", "argocd.argoproj.io/hook: 'PreSync,PostSync'"), configMaps("1", "plain"))}, nil)
	s.synced("web")
	if got := s.cluster.makings("both", "plain"); !slices.Equal(got, []string{"both", "plain", "both"}) {
		t.Errorf("made: %v", got)
	}
}

// The agent may end at any moment: here with each of its writes, after which
// another one goes on. No hook is made twice, and none is forgotten.
func TestAnAgentThatEndsAtAnyWriteGoesOnWhereItWas(t *testing.T) {
	names := []string{"before", "with", "after"}
	web := func(value string) string {
		return docs(hookOf("before", value, preSync), hookOf("with", value, "capstan.dev/hook: Sync", "capstan.dev/hook-delete-policy: HookSucceeded"),
			inWave("late", "1", value), hookOf("after", value, postSync), configMaps(value, "plain"))
	}
	for _, lost := range []bool{false, true} { // the write itself, or only its answer
		for n := 1; ; n++ {
			s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": web("1")}, nil)
			old := s.synced("web").Digest
			before := len(s.cluster.makings(names...))
			s.memory.endAt(n, lost)
			s.push(map[string]string{"web": web("2")})
			ended := s.endsOrSyncs("web", old)
			s.memory.endAt(0, false)
			if ended {
				s.start()
			}
			s.until("web", fmt.Sprintf("at the new content, ended at write %d", n), func(a fleet.AppStatus) bool {
				return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(jobRef("after")), `"2"`)
			})
			if got := s.cluster.makings(names...)[before:]; !slices.Equal(got, names) {
				t.Errorf("ended at write %d (lost %v): made %v", n, lost, got)
			}
			if s.cluster.there(jobRef("with")) {
				t.Errorf("ended at write %d (lost %v): a hook was forgotten", n, lost)
			}
			// All of it is known still: it goes with the app.
			s.push(map[string]string{"root": rootOf("other"), "other": configMaps("1", "other")})
			s.gone("web")
			if s.cluster.there(jobRef("before")) || s.cluster.there(jobRef("after")) {
				t.Errorf("ended at write %d (lost %v): a hook outlived the app", n, lost)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if !ended {
				if n < 5 {
					t.Errorf("only %d writes: is each step written down?", n)
				}
				break
			}
		}
	}
}

func TestAnAgentThatEndsAtAnyWriteGoesOnTakingAnAppOff(t *testing.T) {
	web := docs(configMaps("1", "plain"), hookOf("before", "1", preSync), hookOf("goodbye", "1", "capstan.dev/hook: PreDelete"), hookOf("gone", "1", "capstan.dev/hook: PostDelete"))
	for _, lost := range []bool{false, true} {
		for n := 1; ; n++ {
			s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": web, "db": configMaps("1", "db")}, nil)
			s.synced("web")
			s.synced("db")
			s.memory.endAt(n, lost)
			s.push(map[string]string{"root": rootOf("db")})
			ended := s.endsOrGoes("web")
			s.memory.endAt(0, false)
			if ended {
				s.start()
				s.synced("db")
			}
			s.eventually("forgotten", func() bool { return !s.memory.knows("web") })
			if s.cluster.there(configMap("plain")) || s.cluster.there(jobRef("before")) || s.cluster.there(jobRef("goodbye")) || s.cluster.there(jobRef("gone")) {
				t.Errorf("ended at write %d (lost %v): something is there still", n, lost)
			}
			if got := s.cluster.makings("goodbye", "plain", "gone"); !slices.Equal(got, []string{"plain", "goodbye", "gone"}) {
				t.Errorf("ended at write %d (lost %v): made %v", n, lost, got)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if !ended {
				if n < 4 {
					t.Errorf("only %d writes: is each step written down?", n)
				}
				break
			}
		}
	}
}

// endsOrGoes waits until the engine has ended, or an app is gone.
func (s *spoke) endsOrGoes(name string) bool {
	ended, wait := make(chan struct{}), s.ended
	go func() {
		if err := wait(); errors.Is(err, fleet.ErrConflict) {
			close(ended)
		}
	}()
	for {
		s.told.mu.Lock()
		_, there := s.told.apps[app(name)]
		s.told.mu.Unlock()
		if !there {
			return false
		}
		select {
		case <-ended:
			return true
		case <-s.told.moved:
		}
	}
}

func (m *memory) knows(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.apps[app(name)]
	return ok
}

// endAt has the n-th write of an app from now on fail as if another agent were at
// work, which ends the engine. lost: it was written all the same. 0: none.
func (m *memory) endAt(n int, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends, m.lost, m.err = n, lost, nil
}

// endsOf says of which app the write is.
func (m *memory) endsOf(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of = name
}

// endsOrSyncs waits until the engine has ended, or an app is synced at something new.
func (s *spoke) endsOrSyncs(name string, old fleet.Digest) bool {
	ended, wait := make(chan struct{}), s.ended
	go func() {
		if err := wait(); errors.Is(err, fleet.ErrConflict) {
			close(ended)
		}
	}()
	for {
		s.told.mu.Lock()
		status := s.told.apps[app(name)]
		s.told.mu.Unlock()
		if status.Sync == fleet.Synced && status.Digest != old {
			return false
		}
		select {
		case <-ended:
			return true
		case <-s.told.moved:
		}
	}
}

func TestWhatIsThereUnderAHooksName(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.edit(jobRef("argo"), `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"argo","namespace":"shop","annotations":{"argocd.argoproj.io/hook":"PreSync"}}}`)
	s.cluster.edit(jobRef("theirs"), `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"theirs","namespace":"shop"}}`)
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("argo", "1", preSync), hookOf("theirs", "1", preSync), configMaps("1", "plain"))})
	bad := s.because("web", "ApplyFailed")
	if !strings.Contains(bad.Message, "PreSync hook Job.batch shop/theirs: an object of this name is there already, and is no hook") || bad.Hint == "" {
		t.Errorf("%+v", bad)
	}
	if s.cluster.there(configMap("plain")) || strings.Contains(s.cluster.content(jobRef("theirs")), "hook-run") {
		t.Error("something was changed")
	}
	s.cluster.edit(jobRef("theirs"), "")
	s.push(map[string]string{"root": rootOf("web") + "# look again\n"})
	s.synced("web")
	if !strings.Contains(s.cluster.content(jobRef("argo")), "hook-run") {
		t.Error("what another tool left is there still")
	}
}

func TestAnObjectThatBecomesAHookAndBack(t *testing.T) {
	plain := func(value string) string {
		return docs(hookOf("job", value), configMaps(value, "plain"))
	}
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": plain("1")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": docs(hookOf("job", "2", preSync), configMaps("2", "plain"))})
	s.until("web", "a hook", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && a.Objects == 1 && strings.Contains(s.cluster.content(jobRef("job")), "hook-run")
	})
	uid := s.cluster.uid(jobRef("job"))
	s.push(map[string]string{"web": plain("3")})
	s.until("web", "an object", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && a.Objects == 2 && strings.Contains(s.cluster.content(jobRef("job")), `"3"`)
	})
	if s.cluster.uid(jobRef("job")) != uid {
		t.Error("it was made anew")
	}
}

func TestHooksOfAnotherAppsNameAreRefused(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("db"), "db": docs(hookOf("migrate", "1", preSync), configMaps("1", "db"))}, nil)
	s.synced("db")
	s.push(map[string]string{"root": rootOf("db", "web"), "web": docs(hookOf("migrate", "1", preSync), configMaps("1", "web"))})
	if bad := s.because("web", "ApplyFailed"); !strings.Contains(bad.Message, "Job.batch shop/migrate is in two apps") {
		t.Errorf("%+v", bad)
	}
}

func TestAHookThatVanishesHasFailed(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("quick")
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("quick", "1", preSync), configMaps("1", "plain"))})
	s.until("web", "waiting", waitsForHook("quick"))
	s.cluster.edit(jobRef("quick"), "")
	if bad := s.because("web", "HookFailed"); !strings.Contains(bad.Message, "it was deleted before it was seen to end") {
		t.Errorf("%+v", bad)
	}
}

// A ttlSecondsAfterFinished of 0 takes a Job away in the moment it has ended.
func TestAHookThatIsGoneAsSoonAsItHasEndedHasEnded(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("quick")
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("quick", "1", preSync), configMaps("1", "plain"))})
	s.until("web", "waiting", waitsForHook("quick"))
	s.cluster.becomes(jobRef("quick"), true)
	s.cluster.edit(jobRef("quick"), "")
	s.synced("web")
}

func TestHooksAreApprovedWithTheRest(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web"), "web": docs(hookOf("migrate", "1", preSync), configMaps("1", "web"))}, line, nil)
	first := s.because("web", "WaitsForApproval")
	if first.Pending.Summary.Hooks != 1 || first.Pending.Summary.Create != 1 || s.cluster.there(jobRef("migrate")) {
		t.Errorf("%+v", first.Pending)
	}
	s.bring(s.sign(key, s.statement("web")))
	s.synced("web")
	if !s.cluster.there(jobRef("migrate")) {
		t.Error("the hook did not run")
	}

	s.push(map[string]string{"web": docs(hookOf("migrate", "2", preSync), configMaps("1", "web"))})
	s.because("web", "WaitsForApproval")
	signed, err := s.engine.Plan(app("web"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"action":"hook"`, `"path":"/data/value"`, `"note":"PreSync hook"`} {
		if !strings.Contains(string(signed.Plan), want) {
			t.Errorf("no %s in %s", want, signed.Plan)
		}
	}
}

func TestOtherLabelsHaveAHookTriedAgain(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, func(c *reconcile.Config) { c.Assignable = []string{"size"} })
	s.cluster.failed["migrate"] = true
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("migrate", "1", preSync), configMaps("1", "plain"))})
	s.because("web", "HookFailed")
	s.cluster.fails(jobRef("migrate"), false)
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 1, Labels: map[string]string{"size": "l"}}); err != nil {
		t.Fatal(err)
	}
	s.synced("web")
	if got := s.cluster.makings("migrate"); len(got) != 2 {
		t.Errorf("made: %v", got)
	}
}

func TestHooksOfTheRemoval(t *testing.T) {
	web := docs(configMaps("1", "plain"), hookOf("migrate", "1", preSync), hookOf("goodbye", "1", "helm.sh/hook: pre-delete"),
		hookOf("gone", "1", "capstan.dev/hook: PostDelete"))
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": web, "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.cluster.ills("gone")
	s.cluster.mu.Lock()
	s.cluster.failed["goodbye"] = true
	s.cluster.mu.Unlock()
	s.push(map[string]string{"root": rootOf("db")})
	bad := s.because("web", "HookFailed")
	if !strings.Contains(bad.Message, "PreDelete hook Job.batch shop/goodbye failed") || !s.cluster.there(configMap("plain")) {
		t.Errorf("%+v", bad)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.because("web", "HookFailed")
	s.cluster.mu.Lock()
	s.cluster.failed["goodbye"] = false
	s.cluster.mu.Unlock()
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 1, Syncs: []fleet.SyncRequest{{ID: "1", App: app("web")}}}); err != nil {
		t.Fatal(err)
	}
	s.until("web", "waiting for the last hook", waitsForHook("PostDelete hook Job.batch shop/gone"))
	if s.cluster.there(configMap("plain")) || s.cluster.there(jobRef("migrate")) || s.cluster.there(jobRef("goodbye")) {
		t.Error("a PostDelete hook runs when all else is gone")
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("web", "waiting still", waitsForHook("PostDelete hook Job.batch shop/gone"))
	s.cluster.becomes(jobRef("gone"), true)
	s.gone("web")
	if s.cluster.there(jobRef("gone")) {
		t.Error("its object outlived the app")
	}
	if got := s.cluster.makings("goodbye", "gone"); !slices.Equal(got, []string{"goodbye", "goodbye", "gone"}) {
		t.Errorf("made: %v", got)
	}
}

// A claim that is a hook keeps its data.
func TestAHookThatHoldsDataIsAppliedInPlace(t *testing.T) {
	claim := func(value string) string {
		return strings.Replace(hookOf("data", value, "helm.sh/hook: 'pre-install,pre-upgrade'", "helm.sh/hook-delete-policy: hook-succeeded"), "apiVersion: batch/v1\nkind: Job", "apiVersion: v1\nkind: PersistentVolumeClaim", 1)
	}
	ref := fleet.ObjectRef{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "data"}
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": docs(claim("1"), configMaps("1", "plain"))}, nil)
	s.synced("web")
	uid := s.cluster.uid(ref)
	s.push(map[string]string{"web": docs(claim("2"), configMaps("2", "plain"))})
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(ref), `"2"`)
	})
	if uid == "" || s.cluster.uid(ref) != uid {
		t.Error("it was made anew")
	}
	s.push(map[string]string{"web": configMaps("3", "plain")})
	if got := s.because("web", "WaitsForConfirmation"); !strings.Contains(got.Message, "PersistentVolumeClaim shop/data would be pruned") {
		t.Errorf("%+v", got)
	}
}

func TestSyncFailHooksRunWhenAWaveTakesTooLong(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("early")
	s.push(map[string]string{
		"root": strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {waveTimeout: 1ms}, ", 1),
		"web":  docs(inWave("early", "-1", "1"), configMaps("1", "plain"), hookOf("clean", "1", syncFail)),
	})
	s.because("web", "WaveTimedOut")
	s.until("web", "cleaning up", func(fleet.AppStatus) bool { return s.cluster.there(jobRef("clean")) })
	s.cluster.becomes(configMap("early"), true)
	s.synced("web")
	if got := s.cluster.makings("clean"); len(got) != 1 {
		t.Errorf("it ran %d times", len(got))
	}
}

func TestTheRootMayHaveHooks(t *testing.T) {
	root := docs(hookOf("first", "1", preSync), configMaps("1", "shared"), rootOf("web"))
	s := newSpoke(t, map[string]string{"root": "", "web": configMaps("1", "web")}, nil)
	s.cluster.ills("first")
	s.push(map[string]string{"root": root})
	s.until("root", "waiting", waitsForHook("PreSync hook Job.batch shop/first"))
	s.synced("web") // its apps do not wait
	if s.cluster.there(configMap("shared")) {
		t.Error("it came before its hook had ended")
	}
	s.cluster.becomes(jobRef("first"), true)
	s.until("root", "synced", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && s.cluster.there(configMap("shared")) })
}

func TestHelmsHooksAreObjectsWhereTheAppSaysApply(t *testing.T) {
	root := strings.Replace(rootOf("web"), "path: web", "path: web, helm: {hooks: Apply}", 1)
	s := newSpoke(t, map[string]string{"root": root, "web": "chart"}, nil)
	if got := s.synced("web"); got.Objects != 2 {
		t.Errorf("%+v", got)
	}
	s.push(map[string]string{"root": strings.Replace(root, "Apply", "Run", 1)})
	s.until("web", "with a hook", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Objects == 1 })
}
