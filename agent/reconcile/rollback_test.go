package reconcile_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var jane = fleet.Hold{By: "jane@example.com", At: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC), Why: "bad release"}

// order is what the hub would send.
func order(name string, kind fleet.HoldKind, to fleet.AppStatus) fleet.HoldOrder {
	h := jane
	h.Kind = kind
	if kind == fleet.HoldRollback {
		h.Revision, h.Digest = to.Revision, to.Digest
	}
	return fleet.HoldOrder{App: app(name), Hold: h}
}

func lifted(name string, kind fleet.HoldKind) fleet.HoldOrder {
	return fleet.HoldOrder{App: app(name), Hold: fleet.Hold{Kind: kind, By: jane.By, At: jane.At.Add(time.Hour)}, Lifted: true}
}

// hold hands the spoke orders, as the hub would.
func (s *spoke) hold(orders ...fleet.HoldOrder) {
	s.t.Helper()
	revision++
	if err := s.engine.TakeIntent(s.t.Context(), fleet.Intent{Instance: "h", Revision: revision, Holds: orders}); err != nil {
		s.t.Fatal(err)
	}
}

// released is a spoke whose app ran "1" and runs "2". It returns how "1" was.
func released(t *testing.T, adapt func(*reconcile.Config)) (*spoke, fleet.AppStatus) {
	t.Helper()
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, adapt)
	first := s.synced("web")
	s.release("2")
	return s, first
}

// release pushes and waits until that runs.
func (s *spoke) release(value string) fleet.AppStatus {
	s.t.Helper()
	s.push(map[string]string{"web": configMaps(value, "web")})
	return s.runs(value)
}

func (s *spoke) runs(value string) fleet.AppStatus {
	s.t.Helper()
	return s.until("web", "running "+value, func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"value":"`+value+`"`)
	})
}

func (s *spoke) pinned() fleet.AppStatus {
	s.t.Helper()
	return s.because("web", "Pinned")
}

func TestWhatIsRolledBackStaysUntilItIsResumed(t *testing.T) {
	s, first := released(t, nil)
	s.hold(order("web", fleet.HoldRollback, first))
	got := s.pinned()
	if got.Digest != first.Digest || got.Revision != first.Revision || got.Sync != fleet.Synced {
		t.Errorf("it is at %s %s, and was at %s %s", got.Revision, got.Digest, first.Revision, first.Digest)
	}
	s.runs("1")
	want := "pinned to " + first.Revision.Short() + " by jane@example.com since 2026-03-14T09:26:53Z (bad release), until it is resumed"
	if got.Message != want {
		t.Errorf("it says %q, not %q", got.Message, want)
	}
	if len(got.Holds) != 1 || got.Holds[0].By != jane.By || got.Holds[0].Refused != "" {
		t.Errorf("holds: %+v", got.Holds)
	}
	for _, c := range s.conditions("web", "Pinned") {
		if c.Status != "False" {
			t.Errorf("%+v", c)
		}
	}

	// Neither a commit nor drift moves it.
	s.push(map[string]string{"web": configMaps("3", "web")})
	s.synced("root")
	s.cluster.edit(configMap("web"), strings.ReplaceAll(s.cluster.content(configMap("web")), `"1"`, `"by hand"`))
	s.until("web", "healed", func(a fleet.AppStatus) bool {
		return len(a.Drift) == 0 && strings.Contains(s.cluster.content(configMap("web")), `"value":"1"`)
	})
	s.pinned()

	s.hold(lifted("web", fleet.HoldRollback))
	s.runs("3")
	s.until("web", "resumed", func(a fleet.AppStatus) bool { return len(a.Holds) == 0 && a.Reason == "Healthy" })
	history, err := s.engine.History(app("web"))
	if err != nil || len(history) != 4 || history[1].Revision != first.Revision || history[1].Digest != first.Digest {
		t.Errorf("history %+v, %v", history, err)
	}
}

func TestARollbackOutlivesARestartWithoutGitAndAnotherHub(t *testing.T) {
	s, first := released(t, nil)
	s.hold(order("web", fleet.HoldRollback, first))
	s.pinned()
	s.runs("1")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.fail(errors.New("no route to host"))
	s.repo.forget()
	s.start()
	s.cluster.edit(configMap("web"), strings.ReplaceAll(s.cluster.content(configMap("web")), `"1"`, `"by hand"`))
	got := s.until("web", "healed", func(a fleet.AppStatus) bool {
		return a.Reason == "SourceFailed" && strings.Contains(s.cluster.content(configMap("web")), `"value":"1"`)
	})
	if len(got.Holds) != 1 || !strings.Contains(got.Message, "pinned to "+first.Revision.Short()) || !strings.Contains(got.Hint, "capstan resume") {
		t.Errorf("got %+v", got)
	}

	// An empty hub says nothing of it, and lifts nothing.
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "another", Revision: 1}); err != nil {
		t.Fatal(err)
	}
	s.repo.fail(nil)
	s.push(map[string]string{"web": configMaps("3", "web")})
	s.synced("root")
	s.because("web", "SourceFailed") // the commit is nowhere any more
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, `"value":"1"`) {
		t.Errorf("it went on: %s", got)
	}
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "another", Revision: 2, Holds: []fleet.HoldOrder{lifted("web", fleet.HoldRollback)}}); err != nil {
		t.Fatal(err)
	}
	s.runs("3")
}

func TestARevisionThatIsGoneLeavesWhatRuns(t *testing.T) {
	s, first := released(t, nil)
	s.repo.forget()
	s.hold(order("web", fleet.HoldRollback, first))
	got := s.because("web", "SourceFailed")
	if !strings.Contains(got.Message, "which can't be read; commit "+first.Revision.Commit()+" is not there") {
		t.Errorf("it says %q", got.Message)
	}
	s.push(map[string]string{"web": configMaps("3", "web")})
	s.synced("root")
	s.cluster.edit(configMap("web"), strings.ReplaceAll(s.cluster.content(configMap("web")), `"2"`, `"by hand"`))
	s.until("web", "healed to what ran", func(fleet.AppStatus) bool {
		return strings.Contains(s.cluster.content(configMap("web")), `"value":"2"`)
	})
}

func TestARollbackBringsTheAppsSourceBackToo(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	first := s.synced("web")
	moved := strings.Replace(rootOf("web"), "path: web", "path: elsewhere", 1)
	s.push(map[string]string{"root": moved, "elsewhere": configMaps("2", "web"), "web": ""})
	s.runs("2")
	s.hold(order("web", fleet.HoldRollback, first))
	if got := s.pinned(); got.Digest != first.Digest || got.Path != "web" {
		t.Errorf("got %+v", got)
	}
	s.runs("1")
}

func TestARollbackToSomethingElseThanRanSaysSo(t *testing.T) {
	s, first := released(t, nil)
	second := s.until("web", "told at the second", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest != first.Digest }).Digest
	s.push(map[string]string{"root": strings.Replace(rootOf("web"), "source:", "sync: {selfHeal: false}, source:", 1)})
	s.until("web", "of another policy", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest != second })
	s.hold(order("web", fleet.HoldRollback, first))
	got := s.pinned()
	s.runs("1")
	if got.Digest == first.Digest || !strings.Contains(got.Message, "this is not what ran at "+first.Revision.Short()) {
		t.Errorf("got %+v", got)
	}
}

func TestARollbackIsToWhatRanHereAlone(t *testing.T) {
	s, first := released(t, nil)
	never := first
	never.Revision = fleet.NewRevision("main", strings.Repeat("6", 40))
	s.hold(order("web", fleet.HoldRollback, never))
	got := s.until("web", "refusing", func(a fleet.AppStatus) bool { return len(a.Holds) == 1 })
	if why := got.Holds[0].Refused; !strings.Contains(why, "main@sha1:66666666 is not in the app's history here") || got.IsHeld() {
		t.Errorf("got %+v", got)
	}
	s.release("3")
}

func TestOnAGuardedClusterARollbackWaitsForApproval(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, webAndRoot(), line, nil)
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	first := s.synced("web")
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	s.runs("2")

	// Git's plan gives way to the rollback's.
	s.push(map[string]string{"web": configMaps("3", "web")})
	s.because("web", "WaitsForApproval")
	s.hold(order("web", fleet.HoldRollback, first))
	got := s.until("web", "waiting to go back", func(a fleet.AppStatus) bool {
		return a.Pending != nil && a.Pending.Action == fleet.ActionRollback
	})
	if got.Pending.Digest != first.Digest || got.Pending.Revision != first.Revision || !strings.HasPrefix(got.Message, "pinned to ") {
		t.Errorf("got %+v", got)
	}
	s.runsStill("2")
	asApply := s.statement("web")
	asApply.Action = fleet.ActionApply
	s.bring(s.sign(key, asApply))
	s.until("web", "refused", func(a fleet.AppStatus) bool { return strings.Contains(a.Message, `the plan is to "rollback"`) })
	s.bring(s.sign(key, s.statement("web")))
	if got := s.pinned(); got.Pending != nil {
		t.Errorf("got %+v", got)
	}
	s.runs("1")

	s.hold(lifted("web", fleet.HoldRollback))
	if got := s.until("web", "waiting for Git's", func(a fleet.AppStatus) bool { return a.Pending != nil }); got.Pending.Action != fleet.ActionApply {
		t.Errorf("got %+v", got.Pending)
	}
}

func (s *spoke) runsStill(value string) {
	s.t.Helper()
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, `"value":"`+value+`"`) {
		s.t.Errorf("it runs %s", got)
	}
}

func TestTheHubSuspendsAnAppAndResumesIt(t *testing.T) {
	s, _ := released(t, nil)
	s.hold(order("web", fleet.HoldSuspend, fleet.AppStatus{}))
	got := s.because("web", "Suspended")
	if want := "suspended by jane@example.com since 2026-03-14T09:26:53Z (bad release): nothing is rendered"; !strings.HasPrefix(got.Message, want) || len(got.Holds) != 1 {
		t.Errorf("it says %q", got.Message)
	}
	s.push(map[string]string{"web": configMaps("3", "web")})
	edited := strings.ReplaceAll(s.cluster.content(configMap("web")), `"2"`, `"by hand"`)
	s.cluster.edit(configMap("web"), edited)
	s.until("web", "drifted", func(a fleet.AppStatus) bool { return a.Reason == "Suspended" && len(a.Drift) == 1 })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("web", "suspended after a restart", func(a fleet.AppStatus) bool { return a.Reason == "Suspended" && len(a.Drift) == 1 })
	s.runsStill("by hand")

	s.hold() // says nothing, and lifts nothing
	s.because("web", "Suspended")
	s.hold(lifted("web", fleet.HoldSuspend))
	s.runs("3")
}

func TestWhatTheHubMayHoldIsTheClustersToSay(t *testing.T) {
	_, line := newKey(t, alice)
	asks := strings.Replace(rootOf("web"), "spec: {", "spec: {approval: {clusters: {matchLabels: {env: prod}}}, ", 1)
	for name, c := range map[string]struct {
		may               []fleet.HoldKind
		guarded           bool
		suspend, rollback bool
	}{
		"by default":                            {nil, false, true, true},
		"by default, where plans need approval": {nil, true, false, true},
		"both":                                  {[]fleet.HoldKind{fleet.HoldSuspend, fleet.HoldRollback}, true, true, true},
		"suspend":                               {[]fleet.HoldKind{fleet.HoldSuspend}, false, true, false},
		"nothing":                               {[]fleet.HoldKind{}, false, false, false},
		"nothing, where plans need approval":    {[]fleet.HoldKind{}, true, false, false},
		"roll back, where no plan needs approval": {[]fleet.HoldKind{fleet.HoldRollback}, false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := gate.Config{AllowedSigners: line}.Policy(os.ReadFile)
			if err != nil {
				t.Fatal(err)
			}
			s, first := released(t, func(cfg *reconcile.Config) {
				cfg.HubMay, cfg.Policy, cfg.Declared = c.may, policy, map[string]string{"env": "prod"}
			})
			if c.guarded {
				before := s.synced("root").Revision
				s.push(map[string]string{"root": asks})
				s.until("root", "at the new commit", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Revision != before })
			}
			s.hold(order("web", fleet.HoldSuspend, first), order("web", fleet.HoldRollback, first))
			got := s.until("web", "held or not", func(a fleet.AppStatus) bool { return len(a.Holds) == 2 })
			if suspended, pinned := got.Held(fleet.HoldSuspend) != nil, got.Held(fleet.HoldRollback) != nil; suspended != c.suspend || pinned != c.rollback {
				t.Errorf("suspended %v, rolled back %v: %+v", suspended, pinned, got.Holds)
			}
			if suspended := got.Reason == "Suspended"; suspended != c.suspend {
				t.Errorf("reason %s", got.Reason)
			}
		})
	}
}

func TestTheRootIsNotHeld(t *testing.T) {
	s, first := released(t, nil)
	s.hold(order("root", fleet.HoldSuspend, first), order("root", fleet.HoldRollback, first))
	got := s.until("root", "refusing", func(a fleet.AppStatus) bool { return len(a.Holds) == 2 })
	if got.IsHeld() || !strings.Contains(got.Holds[0].Refused, "the root itself is always followed") {
		t.Errorf("got %+v", got.Holds)
	}
	s.release("3")
}
