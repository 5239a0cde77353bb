package hooks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func ran(name string, p hooks.Phase, s hooks.State, ago time.Duration) hooks.Ran {
	return hooks.Ran{Ref: job(name, `{}`).Ref, Phase: p, UID: "uid-" + name, State: s, Began: now.Add(-ago)}
}

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func TestARunBeginsOncePerChange(t *testing.T) {
	done := &hooks.Run{ID: "old", Digest: "A", Labels: "l", Done: true}
	begun := &hooks.Run{ID: "old", Digest: "B", Labels: "l", Ran: []hooks.Ran{
		ran("ok", hooks.PreSync, hooks.Succeeded, 0), ran("bad", hooks.PreSync, hooks.Failed, 0), ran("slow", hooks.Sync, hooks.Unended, time.Hour),
		ran("quick", hooks.Sync, hooks.Unended, time.Second), ran("told", hooks.SyncFail, hooks.Succeeded, 0),
	}}
	well := &hooks.Run{ID: "old", Digest: "B", Labels: "l", Ran: []hooks.Ran{ran("ok", hooks.PreSync, hooks.Succeeded, 0), ran("told", hooks.SyncFail, hooks.Failed, 0)}}
	relabelled := &hooks.Run{ID: "old", Digest: "B", Labels: "l", Ran: []hooks.Ran{ran("slow", hooks.Sync, hooks.Unended, time.Hour)}}
	removal := &hooks.Run{ID: "old"}
	for _, tt := range []struct {
		name string
		was  *hooks.Run
		c    hooks.Change
		want string // id, digest, install, what is known of hooks; "": none
	}{
		{"no hooks, and never had some", nil, hooks.Change{To: "A"}, ""},
		{"an app's first change", nil, hooks.Change{To: "A", Hooks: true}, "new A install"},
		{"a later change", nil, hooks.Change{To: "B", Applied: "A", Hooks: true}, "new B"},
		{"another digest than the one that ran", done, hooks.Change{To: "B", Applied: "A", Hooks: true}, "new B"},
		{"hooks went: noted, so that coming back runs them", done, hooks.Change{To: "B", Applied: "A"}, "new B"},
		{"what is applied is put right", done, hooks.Change{To: "A", Applied: "A", Hooks: true, Sends: true}, ""},
		{"it was applied before hooks ran here", nil, hooks.Change{To: "A", Applied: "A", Hooks: true, Sends: true}, ""},
		{"back from a change that was begun", begun, hooks.Change{To: "A", Applied: "A", Hooks: true, Sends: true}, "new A"},
		{"back from a change that sent nothing", begun, hooks.Change{To: "A", Applied: "A", Hooks: true}, ""},
		{"it goes on", begun, hooks.Change{To: "B", Applied: "A", Hooks: true}, "old B ok bad slow quick told"},
		{"a person has it tried again", begun, hooks.Change{To: "B", Applied: "A", Hooks: true, Retry: true}, "new B ok quick"},
		{"other labels", begun, hooks.Change{To: "B", Applied: "A", Hooks: true, Labels: "m"}, "new B ok quick"},
		{"other labels, and nothing failed but what cleans up", well, hooks.Change{To: "B", Applied: "A", Hooks: true, Labels: "m"}, "old B ok told"},
		{"other labels, while it runs", relabelled, hooks.Change{To: "B", Applied: "A", Hooks: true, Labels: "m"}, "old B slow"},
		{"the app leaves", done, hooks.Change{To: "", Applied: "A", Hooks: true}, "new "},
		{"it goes on leaving, when all is gone", removal, hooks.Change{Hooks: true}, "old "},
		{"it comes back before it was gone", removal, hooks.Change{To: "A", Hooks: true}, "new A install"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.ID, tt.c.Now, tt.c.Within = "new", now, time.Minute
			if tt.c.Labels == "" {
				tt.c.Labels = "l"
			}
			before := fmt.Sprintf("%+v", tt.was)
			run, ok := hooks.Begin(tt.was, tt.c)
			got := ""
			if ok {
				got = run.ID + " " + string(run.Digest)
				if run.Install {
					got += " install"
				}
				for _, x := range run.Ran {
					got += " " + x.Ref.Name
				}
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if ok && run.Labels != tt.c.Labels {
				t.Errorf("labels %s, want %s", run.Labels, tt.c.Labels)
			}
			if !ok && run != tt.was {
				t.Error("no run is needed, and what was known is lost")
			}
			if fmt.Sprintf("%+v", tt.was) != before {
				t.Error("what was written down was changed in place")
			}
		})
	}
}

func TestWhatIsNotedLeavesTheOldRunAsItWas(t *testing.T) {
	old := hooks.Run{ID: "x", Ran: []hooks.Ran{ran("a", hooks.PreSync, hooks.Unended, 0)}}
	next := old.Noting(ran("a", hooks.PreSync, hooks.Succeeded, 0)).Noting(ran("a", hooks.PostSync, hooks.Failed, 0))
	if len(old.Ran) != 1 || old.Ran[0].State != hooks.Unended {
		t.Errorf("%+v", old)
	}
	if x, _ := next.Of(job("a", `{}`).Ref, hooks.PreSync); len(next.Ran) != 2 || x.State != hooks.Succeeded {
		t.Errorf("%+v", next)
	}
}

func TestPoliciesDeleteWhatHasEnded(t *testing.T) {
	all := parted(t,
		job("ok", `{"capstan.dev/hook":"PreSync","capstan.dev/hook-delete-policy":"HookSucceeded"}`),
		job("ok-stays", `{"capstan.dev/hook":"PreSync","capstan.dev/hook-delete-policy":"HookFailed"}`),
		job("bad", `{"capstan.dev/hook":"PreSync","capstan.dev/hook-delete-policy":"HookFailed"}`),
		job("bad-stays", `{"capstan.dev/hook":"PreSync"}`),
		job("runs", `{"capstan.dev/hook":"PreSync","capstan.dev/hook-delete-policy":"HookSucceeded,HookFailed"}`),
		job("gone", `{"capstan.dev/hook":"PreSync","capstan.dev/hook-delete-policy":"HookSucceeded"}`))
	r := hooks.Run{Ran: []hooks.Ran{
		ran("ok", hooks.PreSync, hooks.Succeeded, 0), ran("ok-stays", hooks.PreSync, hooks.Succeeded, 0), ran("bad", hooks.PreSync, hooks.Failed, 0),
		ran("bad-stays", hooks.PreSync, hooks.Failed, 0), ran("runs", hooks.PreSync, hooks.Unended, 0), ran("gone", hooks.PreSync, hooks.Succeeded, 0),
	}}
	made := []inventory.Item{}
	for _, h := range all {
		made = append(made, inventory.Item{Ref: h.Object.Ref, UID: "uid-" + h.Object.Ref.Name})
	}
	made[len(made)-1].UID = "uid-of-another"
	var got []string
	for _, it := range r.Leaving(all, hooks.PreSync, made) {
		got = append(got, it.Ref.Name)
	}
	if !slices.Equal(got, []string{"ok", "bad"}) {
		t.Errorf("%v", got)
	}
	if got := r.Leaving(all, hooks.PostSync, made); len(got) > 0 {
		t.Errorf("of another phase: %v", got)
	}
}

func TestAnObjectThatBecomesAHookChangesSides(t *testing.T) {
	item := func(name, uid string) inventory.Item {
		return inventory.Item{Ref: job(name, `{}`).Ref, UID: uid, Hash: "h", Fingerprint: "f"}
	}
	hooked, plain := parted(t, job("a", `{"capstan.dev/hook":"Sync"}`)), []unit.Object{job("b", `{}`)}
	foreign := item("a", "1")
	foreign.Foreign = true
	for _, tt := range []struct {
		name        string
		items, made []inventory.Item
		want        string
	}{
		{"nothing moves", []inventory.Item{item("b", "1")}, []inventory.Item{item("a", "2")}, "b/1/h | a/2/h false"},
		{"one becomes a hook", []inventory.Item{item("a", "1"), item("b", "2")}, nil, "b/2/h | a/1/ true"},
		{"one is none any more", nil, []inventory.Item{item("b", "1"), item("c", "2")}, "b/1/ | c/2/h true"},
		{"what is not ours stays where it is", []inventory.Item{foreign}, nil, "a/1/h |  false"},
	} {
		items, made, moved := hooks.Settle(tt.items, tt.made, plain, hooked)
		side := func(all []inventory.Item) string {
			var out []string
			for _, it := range all {
				out = append(out, it.Ref.Name+"/"+it.UID+"/"+it.Hash)
			}
			return strings.Join(out, " ")
		}
		if got := fmt.Sprintf("%s | %s %v", side(items), side(made), moved); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if left := hooks.Left([]inventory.Item{item("a", "1"), item("c", "2")}, hooked); len(left) != 1 || left[0].Ref.Name != "c" {
		t.Errorf("left: %v", left)
	}
}

func TestWhatStandsWhereAHookIsToBe(t *testing.T) {
	app := fleet.AppName{Namespace: "capstan-system", Name: "web"}
	live := func(change func(*unstructured.Unstructured)) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		u.SetUID("1")
		change(u)
		return u
	}
	labels := map[string]string{inventory.AppLabel: "web", inventory.NamespaceLabel: "capstan-system"}
	applied := []metav1.ManagedFieldsEntry{{Manager: inventory.FieldManager, Operation: metav1.ManagedFieldsOperationApply}}
	for _, tt := range []struct {
		name string
		live *unstructured.Unstructured
		uid  string
		want hooks.Standing
	}{
		{"nothing", nil, "", hooks.Absent},
		{"it was made, and nobody heard", live(func(u *unstructured.Unstructured) {
			u.SetLabels(labels)
			u.SetAnnotations(map[string]string{hooks.RunAnnotation: "run.PreSync"})
		}), "", hooks.Begun},
		{"it was made, and is being deleted", live(func(u *unstructured.Unstructured) {
			u.SetLabels(labels)
			u.SetAnnotations(map[string]string{hooks.RunAnnotation: "run.PreSync"})
			u.SetDeletionTimestamp(&metav1.Time{Time: now})
		}), "1", hooks.InTheWay},
		{"an earlier run's, which we know", live(func(*unstructured.Unstructured) {}), "1", hooks.InTheWay},
		{"an earlier run's, by what it says", live(func(u *unstructured.Unstructured) {
			u.SetLabels(labels)
			u.SetManagedFields(applied)
			u.SetAnnotations(map[string]string{hooks.RunAnnotation: "older.PreSync"})
		}), "", hooks.InTheWay},
		{"another app's", live(func(u *unstructured.Unstructured) {
			u.SetLabels(map[string]string{inventory.AppLabel: "db", inventory.NamespaceLabel: "capstan-system"})
			u.SetManagedFields(applied)
			u.SetAnnotations(map[string]string{hooks.Annotation: "PreSync"})
		}), "", hooks.Foreign},
		{"another tool's hook", live(func(u *unstructured.Unstructured) {
			u.SetAnnotations(map[string]string{"argocd.argoproj.io/hook": "PreSync"})
		}), "", hooks.InTheWay},
		{"something else", live(func(u *unstructured.Unstructured) { u.SetLabels(labels) }), "2", hooks.Foreign},
	} {
		if got := hooks.Stand(tt.live, app, "run.PreSync", tt.uid); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAHooksObjectCarriesItsRun(t *testing.T) {
	o := job("x", `{"capstan.dev/hook":"PreSync","big":"9007199254740993"}`)
	got, err := hooks.Stamped(o, hooks.Run{ID: "R"}.Stamp(hooks.PreSync))
	if err != nil || !strings.Contains(string(got.JSON), `"capstan.dev/hook-run":"R.PreSync"`) || strings.Contains(string(o.JSON), "hook-run") {
		t.Errorf("%s, %v", got.JSON, err)
	}
	if _, err := hooks.Stamped(unit.Object{Ref: o.Ref, JSON: []byte(`{}`)}, "x"); err == nil {
		t.Error("what has no annotations is taken for a hook")
	}
}
