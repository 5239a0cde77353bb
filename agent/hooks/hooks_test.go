package hooks_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func job(name, annotations string) unit.Object {
	return unit.Object{
		Ref:  fleet.ObjectRef{Group: "batch", Version: "v1", Kind: "Job", Namespace: "shop", Name: name},
		JSON: fmt.Appendf(nil, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"annotations":%s,"name":%q,"namespace":"shop"}}`, annotations, name),
	}
}

// describe is a hook as a test writes it: phases, wave, policy.
func describe(h hooks.Hook) string {
	var on []string
	for _, e := range h.On {
		on = append(on, strings.TrimSuffix(string(e.Phase)+"/"+string(e.Only), "/"))
	}
	out := fmt.Sprintf("%s %d", strings.Join(on, "+"), h.Wave)
	if h.OnSuccess {
		out += " succeeded"
	}
	if h.OnFailure {
		out += " failed"
	}
	return out
}

func TestAnnotationsSayWhatAHookIs(t *testing.T) {
	for _, tt := range []struct{ annotations, want string }{
		{`{}`, "plain"},
		{`null`, "plain"},
		{`{"capstan.dev/hook":"PreSync"}`, "PreSync 0"},
		{`{"capstan.dev/hook":"PreSync, PostSync"}`, "PreSync+PostSync 0"},
		{`{"capstan.dev/hook":"Sync","capstan.dev/wave":"-3","capstan.dev/hook-delete-policy":"HookSucceeded,HookFailed"}`, "Sync -3 succeeded failed"},
		{`{"argocd.argoproj.io/hook":"SyncFail","argocd.argoproj.io/sync-wave":"2","argocd.argoproj.io/hook-delete-policy":"HookFailed"}`, "SyncFail 2 failed"},
		{`{"argocd.argoproj.io/hook":"PreDelete,PostDelete","argocd.argoproj.io/hook-delete-policy":"BeforeHookCreation"}`, "PreDelete+PostDelete 0"},
		{`{"argocd.argoproj.io/hook":"Skip"}`, "neither"},
		{`{"helm.sh/hook":"pre-install,pre-upgrade","helm.sh/hook-weight":"-5","helm.sh/hook-delete-policy":"before-hook-creation,hook-succeeded"}`, "PreSync -5 succeeded"},
		{`{"helm.sh/hook":"post-install"}`, "PostSync/install 0"},
		{`{"helm.sh/hook":"Pre-Upgrade"}`, "PreSync/upgrade 0"},
		{`{"helm.sh/hook":"pre-install,post-upgrade"}`, "PreSync/install+PostSync/upgrade 0"},
		{`{"helm.sh/hook":"pre-delete,post-delete"}`, "PreDelete+PostDelete 0"},
		{`{"helm.sh/hook":"pre-rollback"}`, "neither"},
		{`{"helm.sh/hook":"post-install,post-rollback"}`, "PostSync/install 0"},
		{`{"helm.sh/hook":"test-success"}`, "neither"},
		{`{"helm.sh/hook":"crd-install"}`, "plain"},
		// Ours counts before Argo CD's, and that before Helm's.
		{`{"capstan.dev/hook":"Sync","argocd.argoproj.io/hook":"PreSync","helm.sh/hook":"test"}`, "Sync 0"},
		{`{"argocd.argoproj.io/hook":"PostSync","helm.sh/hook":"pre-install","helm.sh/hook-delete-policy":"hook-failed"}`, "PostSync 0 failed"},
		{`{"capstan.dev/hook":"Sync","capstan.dev/wave":"1","helm.sh/hook-weight":"7"}`, "Sync 1"},
		{`{"helm.sh/hook-weight":"7","helm.sh/hook-delete-policy":"nonsense"}`, "plain"},
	} {
		plain, all, err := hooks.Part([]unit.Object{job("x", tt.annotations)}, true)
		got := "neither"
		switch {
		case err != nil:
			got = err.Error()
		case len(plain) > 0:
			got = "plain"
		case len(all) > 0:
			got = describe(all[0])
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.annotations, got, tt.want)
		}
	}
}

func TestWhatIsNotAskedToRunAsHelmsHookIsAnObjectLikeTheOthers(t *testing.T) {
	plain, all, err := hooks.Part([]unit.Object{job("a", `{"helm.sh/hook":"pre-install"}`), job("b", `{"capstan.dev/hook":"Sync"}`)}, false)
	if err != nil || len(plain) != 1 || plain[0].Ref.Name != "a" || len(all) != 1 {
		t.Errorf("%v %v %v", plain, all, err)
	}
}

func TestAnAnnotationThatIsWrongIsNamed(t *testing.T) {
	for annotations, want := range map[string]string{
		`{"capstan.dev/hook":"presync"}`:                                                `"presync" is not known`,
		`{"capstan.dev/hook":""}`:                                                       "it is empty",
		`{"argocd.argoproj.io/hook":7}`:                                                 "not a text",
		`{"helm.sh/hook":"before-lunch"}`:                                               `"before-lunch" is not known`,
		`{"capstan.dev/hook":"Sync","capstan.dev/wave":"soon"}`:                         `"soon" is not a whole number`,
		`{"helm.sh/hook":"pre-install","helm.sh/hook-weight":"heavy"}`:                  `"heavy" is not a whole number`,
		`{"capstan.dev/hook":"Sync","capstan.dev/hook-delete-policy":"hook-succeeded"}`: `"hook-succeeded" is not known`,
		`{"helm.sh/hook":"pre-install","helm.sh/hook-delete-policy":"HookSucceeded"}`:   `"HookSucceeded" is not known`,
		`["x"]`: "can't be read",
	} {
		_, _, err := hooks.Part([]unit.Object{job("odd", annotations)}, true)
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "Job.batch shop/odd") != 1 {
			t.Errorf("%s: %v", annotations, err)
		}
		if annotations != `["x"]` && fleet.Hint(err) == "" {
			t.Errorf("%s: no hint: %v", annotations, err)
		}
	}
}

func parted(t *testing.T, objects ...unit.Object) []hooks.Hook {
	t.Helper()
	_, all, err := hooks.Part(objects, true)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHooksHaveWavesAmongThemselves(t *testing.T) {
	all := parted(t,
		job("b", `{"capstan.dev/hook":"PreSync","capstan.dev/wave":"1"}`), job("a", `{"helm.sh/hook":"pre-install","helm.sh/hook-weight":"-1"}`),
		job("c", `{"capstan.dev/hook":"PostSync"}`), job("d", `{"helm.sh/hook":"pre-upgrade","helm.sh/hook-weight":"1"}`))
	names := func(p hooks.Phase, install bool) string {
		var out []string
		for _, w := range hooks.Waves(all, p, install) {
			for _, h := range w.Hooks {
				out = append(out, fmt.Sprintf("%d:%s", w.Number, h.Object.Ref.Name))
			}
		}
		return strings.Join(out, " ")
	}
	for _, tt := range []struct {
		phase   hooks.Phase
		install bool
		want    string
	}{
		{hooks.PreSync, true, "-1:a 1:b"}, {hooks.PreSync, false, "1:b 1:d"}, {hooks.PostSync, true, "0:c"}, {hooks.SyncFail, true, ""},
	} {
		if got := names(tt.phase, tt.install); got != tt.want {
			t.Errorf("%s, install %v: %q, want %q", tt.phase, tt.install, got, tt.want)
		}
	}
}

func TestSyncHooksComeInTheWavesOfTheObjects(t *testing.T) {
	all := parted(t, job("x", `{"capstan.dev/hook":"Sync","capstan.dev/wave":"1"}`), job("y", `{"capstan.dev/hook":"Sync","capstan.dev/wave":"0"}`))
	waves, err := order.Waves([]unit.Object{job("plain", `{}`), job("late", `{"capstan.dev/wave":"2"}`)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range hooks.Merge(waves, hooks.Waves(all, hooks.Sync, true)) {
		got = append(got, fmt.Sprintf("%d: %d objects, %d hooks", s.Number, len(s.Objects), len(s.Hooks)))
	}
	if s := strings.Join(got, "; "); s != "0: 1 objects, 1 hooks; 1: 0 objects, 1 hooks; 2: 1 objects, 0 hooks" {
		t.Error(s)
	}
}

func TestWhatOthersNeedComesFirst(t *testing.T) {
	account := unit.Object{Ref: fleet.ObjectRef{Version: "v1", Kind: "ServiceAccount", Name: "x"}}
	first, then := hooks.Needed([]unit.Object{job("x", `{}`), account})
	if len(first) != 1 || first[0].Ref.Kind != "ServiceAccount" || len(then) != 1 {
		t.Errorf("%v %v", first, then)
	}
}

func TestAHookSaysWhenItRunsAndWhatBecomesOfIt(t *testing.T) {
	claim := unit.Object{
		Ref:  fleet.ObjectRef{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "data"},
		JSON: []byte(`{"metadata":{"annotations":{"helm.sh/hook":"pre-install","helm.sh/hook-delete-policy":"hook-succeeded"}}}`),
	}
	for _, tt := range []struct {
		object unit.Object
		want   string
	}{
		{job("x", `{"capstan.dev/hook":"PreSync,PostSync","capstan.dev/wave":"3"}`), "PreSync, PostSync hook of wave 3"},
		{job("x", `{"helm.sh/hook":"post-upgrade","helm.sh/hook-delete-policy":"hook-succeeded"}`), "PostSync (not at the first change) hook; deleted when it has succeeded"},
		{job("x", `{"capstan.dev/hook":"SyncFail","capstan.dev/hook-delete-policy":"HookFailed"}`), "SyncFail hook; deleted when it has failed"},
		{job("x", `{"capstan.dev/hook":"Sync","capstan.dev/hook-delete-policy":"HookFailed,HookSucceeded"}`), "Sync hook; deleted when it has ended"},
		{claim, "PreSync (first change only) hook; applied in place, and never deleted by its policy"},
	} {
		if got := parted(t, tt.object)[0].String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func FuzzPart(f *testing.F) {
	f.Add(`{"capstan.dev/hook":"PreSync","helm.sh/hook":"test","helm.sh/hook-weight":"1"}`)
	f.Add(`{"argocd.argoproj.io/hook":",,","capstan.dev/hook-delete-policy":null}`)
	f.Fuzz(func(t *testing.T, annotations string) {
		plain, all, err := hooks.Part([]unit.Object{job("x", annotations)}, true)
		if err != nil && len(plain)+len(all) > 0 {
			t.Error("an error, and objects too")
		}
		for _, h := range all {
			if len(h.On) == 0 {
				t.Error("a hook that never runs")
			}
		}
	})
}
