package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// hookOf is a Job with annotations, and a value to change.
func hookOf(name, value string, annotations ...string) string {
	return fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: %s, namespace: shop, annotations: {%s}}\ndata: {value: %q}\n",
		name, strings.Join(annotations, ", "), value)
}

func jobRef(name string) fleet.ObjectRef {
	return fleet.ObjectRef{Group: "batch", Version: "v1", Kind: "Job", Namespace: "shop", Name: name}
}

func docs(all ...string) string { return strings.Join(all, "\n---\n") }

func (c *cluster) fails(ref fleet.ObjectRef, failed bool) {
	c.mu.Lock()
	c.failed[ref.Name] = failed
	c.mu.Unlock()
	c.becomes(ref, true)
}

func (c *cluster) ills(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range names {
		c.unwell[n] = true
	}
}

func (c *cluster) makings(of ...string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.made), func(n string) bool { return !slices.Contains(of, n) })
}

func waitsForHook(text string) func(fleet.AppStatus) bool {
	return func(a fleet.AppStatus) bool {
		return a.Sync == fleet.OutOfSync && a.Reason == "WaitsForHook" && strings.Contains(a.Message, text)
	}
}

const (
	preSync  = "capstan.dev/hook: PreSync"
	postSync = "capstan.dev/hook: PostSync"
	syncFail = "capstan.dev/hook: SyncFail"
)

func TestHooksRunAroundAChangeAndOncePerChange(t *testing.T) {
	web := func(value string) string {
		return docs(hookOf("before", value, preSync), hookOf("first", value, preSync, `capstan.dev/wave: "-1"`), configMaps(value, "plain"), hookOf("after", value, postSync),
			hookOf("never", value, "argocd.argoproj.io/hook: Skip"), hookOf("fail", value, syncFail))
	}
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("first", "before", "plain", "after")
	s.push(map[string]string{"root": rootOf("web"), "web": web("1")})

	s.until("web", "waiting for the first hook", waitsForHook("PreSync hook Job.batch shop/first is Progressing: starts"))
	if s.cluster.there(jobRef("before")) || s.cluster.there(configMap("plain")) {
		t.Error("something came before its time")
	}
	s.cluster.becomes(jobRef("first"), true)
	s.until("web", "waiting for the second wave of hooks", waitsForHook("Job.batch shop/before"))
	if s.cluster.there(configMap("plain")) {
		t.Error("the app came before its PreSync hooks had ended")
	}
	s.cluster.becomes(jobRef("before"), true)
	s.until("web", "waiting to be well", waitsFor("PostSync hooks come when all is well, and ConfigMap shop/plain is Progressing"))
	if s.cluster.there(jobRef("after")) {
		t.Error("a PostSync hook ran before all was well")
	}
	s.cluster.becomes(configMap("plain"), true)
	s.until("web", "waiting for the last", waitsForHook("PostSync hook Job.batch shop/after"))
	s.cluster.becomes(jobRef("after"), true)
	got := s.synced("web")
	if got.Objects != 1 {
		t.Errorf("hooks count as objects: %+v", got)
	}
	if s.cluster.there(jobRef("never")) || s.cluster.there(jobRef("fail")) {
		t.Error("a hook ran that had no reason to")
	}

	// A hook that is deleted is not drift, and is not made again.
	s.cluster.edit(jobRef("before"), "")
	s.cluster.edit(configMap("plain"), "")
	s.until("web", "healed", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && s.cluster.there(configMap("plain")) })
	if s.cluster.there(jobRef("before")) {
		t.Error("a hook was healed")
	}

	// The next change runs them anew: the object is another one.
	first := s.cluster.uid(jobRef("first"))
	s.push(map[string]string{"web": web("2")})
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(jobRef("after")), `"2"`)
	})
	if s.cluster.uid(jobRef("first")) == first {
		t.Error("a hook did not run anew")
	}
	if got := s.cluster.makings("first", "before", "after"); !slices.Equal(got, []string{"first", "before", "after", "first", "before", "after"}) {
		t.Errorf("made: %v", got)
	}
}

func TestAChangeOfAHookAloneRunsIt(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": docs(hookOf("job", "1", preSync), configMaps("1", "plain"))}, nil)
	s.synced("web")
	s.push(map[string]string{"web": docs(hookOf("job", "2", preSync), configMaps("1", "plain"))})
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(jobRef("job")), `"2"`)
	})
}

func TestAHookThatFailsStopsTheChange(t *testing.T) {
	web := func(value string) string {
		return docs(hookOf("migrate", value, preSync), configMaps(value, "plain"), hookOf("clean", value, syncFail))
	}
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": docs(web("1"), configMaps("1", "old"))}, nil)
	s.synced("web")
	s.cluster.mu.Lock()
	s.cluster.pods = "migrate-x: Error: the container ended with code 3"
	s.cluster.failed["migrate"] = true
	s.cluster.mu.Unlock()
	s.cluster.ills("clean")
	s.push(map[string]string{"web": web("2")})
	s.until("web", "cleaning up", func(a fleet.AppStatus) bool {
		return a.Reason == "HookFailed" && strings.Contains(a.Message, "SyncFail hook Job.batch shop/clean is Progressing")
	})
	s.cluster.becomes(jobRef("clean"), true)
	bad := s.until("web", "failed", func(a fleet.AppStatus) bool { return a.Reason == "HookFailed" && a.Hint != "" })
	want := "PreSync hook Job.batch shop/migrate failed: BackoffLimitExceeded; migrate-x: Error: the container ended with code 3"
	if bad.Sync != fleet.OutOfSync || bad.Message != want || !strings.Contains(bad.Hint, "capstan sync") {
		t.Errorf("%+v", bad)
	}
	if c := s.cluster.content(configMap("plain")); !strings.Contains(c, `"1"`) || !s.cluster.there(configMap("old")) {
		t.Error("what runs was touched")
	}

	// Nothing but a person, another digest or other labels has it tried again.
	made := s.cluster.makings("migrate", "clean")
	s.cluster.edit(configMap("old"), "")
	s.until("web", "healed meanwhile", func(fleet.AppStatus) bool { return s.cluster.there(configMap("old")) })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	again := s.because("web", "HookFailed")
	if again.Message != want || !slices.Equal(s.cluster.makings("migrate", "clean"), made) {
		t.Errorf("after a restart: %+v, made %v", again, s.cluster.makings("migrate", "clean"))
	}

	s.cluster.fails(jobRef("migrate"), false)
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 1, Syncs: []fleet.SyncRequest{{ID: "1", App: app("web")}}}); err != nil {
		t.Fatal(err)
	}
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("plain")), `"2"`) && !s.cluster.there(configMap("old"))
	})
}

func TestAHookThatFailedIsTriedAgainWithAnotherDigest(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.failed["migrate"] = true
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("migrate", "1", preSync), configMaps("1", "plain"))})
	s.because("web", "HookFailed")
	s.cluster.mu.Lock()
	s.cluster.failed["migrate"] = false
	s.cluster.mu.Unlock()
	s.push(map[string]string{"web": docs(hookOf("migrate", "2", preSync), configMaps("1", "plain"))})
	s.synced("web")
	if !strings.Contains(s.cluster.content(jobRef("migrate")), `"2"`) {
		t.Error("the old hook is there still")
	}
}

func TestANewCommitEndsTheWaitForAHook(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("stuck")
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("stuck", "1", preSync), configMaps("1", "plain"))})
	s.until("web", "waiting", waitsForHook("stuck"))
	s.push(map[string]string{"web": configMaps("1", "plain")})
	s.synced("web")
	if s.cluster.there(jobRef("stuck")) {
		t.Error("a hook that is in Git no more is there still")
	}
}

func TestGoingBackFromAHookThatWaitsLeavesNothing(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "plain")}, nil)
	s.synced("web")
	s.cluster.ills("stuck")
	s.push(map[string]string{"web": docs(hookOf("stuck", "1", preSync), configMaps("2", "plain"))})
	s.until("web", "waiting", waitsForHook("stuck"))
	s.push(map[string]string{"web": configMaps("1", "plain")})
	s.until("web", "as before", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && !s.cluster.there(jobRef("stuck")) })
}

func TestAHookThatTakesTooLongSaysSoAndGoesOn(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.ills("slow")
	s.push(map[string]string{
		"root": strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {waveTimeout: 1ms}, ", 1),
		"web":  docs(hookOf("slow", "1", preSync), configMaps("1", "plain"), hookOf("clean", "1", syncFail)),
	})
	late := s.because("web", "HookTimedOut")
	if !strings.Contains(late.Message, "for more than 1ms: PreSync hook Job.batch shop/slow is Progressing") {
		t.Errorf("%+v", late)
	}
	s.until("web", "cleaning up", func(fleet.AppStatus) bool { return s.cluster.there(jobRef("clean")) })
	s.cluster.becomes(jobRef("slow"), true)
	s.synced("web")
}

func TestSyncFailHooksRunWhenTheAPIServerRefuses(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.refuse("plain", true)
	s.push(map[string]string{"root": rootOf("web"), "web": docs(configMaps("1", "plain"), hookOf("clean", "1", syncFail, "capstan.dev/hook-delete-policy: HookSucceeded"))})
	s.because("web", "ApplyFailed")
	s.until("web", "cleaned up", func(fleet.AppStatus) bool { return len(s.cluster.makings("clean")) == 1 })
	s.cluster.refuse("plain", false)
	s.push(map[string]string{"root": rootOf("web") + "# look again\n"})
	s.synced("web")
	if s.cluster.there(jobRef("clean")) {
		t.Error("a hook's policy was not heeded")
	}
	if got := s.cluster.makings("clean"); len(got) != 1 {
		t.Errorf("it ran %d times", len(got))
	}
}
