package hooks

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The annotations that make an object a hook, and say what becomes of it. Of
// several, ours counts before Argo CD's, and that before Helm's.
const (
	Annotation       = "capstan.dev/hook"
	PolicyAnnotation = "capstan.dev/hook-delete-policy"

	argoCDHook   = "argocd.argoproj.io/hook"
	argoCDPolicy = "argocd.argoproj.io/hook-delete-policy"
	helmHook     = "helm.sh/hook"
	helmPolicy   = "helm.sh/hook-delete-policy"
	helmWeight   = "helm.sh/hook-weight"
)

const (
	skip   = "Skip"
	phases = "PreSync, Sync, PostSync, SyncFail, PreDelete, PostDelete or Skip"
)

// helmEvents are what Helm calls them. Those without an event never come here:
// nothing is rolled back, and tests are run by whoever wants to.
var helmEvents = map[string]*Event{
	"pre-install": {PreSync, Install}, "post-install": {PostSync, Install},
	"pre-upgrade": {PreSync, Upgrade}, "post-upgrade": {PostSync, Upgrade},
	"pre-delete": {PreDelete, Any}, "post-delete": {PostDelete, Any},
	"pre-rollback": nil, "post-rollback": nil, "test": nil, "test-success": nil, "test-failure": nil,
}

// helmPlain is no hook to Helm 3 and later: a definition is there before its objects.
const helmPlain = "crd-install"

// Part parts what was rendered into the objects that are kept on the cluster and
// the hooks. Those that are neither (Skip, Helm's tests) are in neither.
// helmToo: Helm's annotations count; otherwise its hooks are objects like the
// others. The error names the object whose annotation is wrong.
func Part(objects []unit.Object, helmToo bool) (plain []unit.Object, all []Hook, err error) {
	for _, o := range objects {
		h, is, err := read(o, helmToo)
		switch {
		case err != nil:
			return nil, nil, err
		case !is:
			plain = append(plain, o)
		case len(h.On) > 0:
			all = append(all, h)
		}
	}
	return plain, all, nil
}

// IsMarked tells an object that some tool's annotation makes a hook.
func IsMarked(annotations map[string]string) bool {
	for _, key := range []string{Annotation, argoCDHook, helmHook} {
		if annotations[key] != "" {
			return true
		}
	}
	return false
}

func read(o unit.Object, helmToo bool) (h Hook, is bool, err error) {
	var head struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(o.JSON, &head); err != nil {
		return h, false, fleet.Invalid("%s: its annotations can't be read", o.Ref)
	}
	a := head.Metadata.Annotations
	h.Object = o
	if h.On, is, err = events(a, helmToo); err != nil || !is || len(h.On) == 0 {
		return h, is, of(o, err)
	}
	if h.Wave, err = order.WaveOf(o, helmWeight); err != nil {
		return h, true, err
	}
	h.OnSuccess, h.OnFailure, err = policy(a)
	return h, true, of(o, err)
}

// of names the object that an error is about.
func of(o unit.Object, err error) error {
	if err == nil {
		return nil
	}
	return fleet.WithHint(fmt.Errorf("%s: %w", o.Ref, err), fleet.Hint(err))
}

// events are when an object runs as a hook; none where it is one that never does.
func events(a map[string]any, helmToo bool) (on []Event, is bool, err error) {
	for _, key := range []string{Annotation, argoCDHook} {
		words, there, err := list(a, key)
		if err == nil && there {
			on, err = phasesOf(key, words)
		}
		if err != nil || there {
			return on, there, err
		}
	}
	if !helmToo {
		return nil, false, nil
	}
	words, there, err := list(a, helmHook)
	if err != nil || !there {
		return nil, false, err
	}
	for _, word := range words {
		e, known := helmEvents[strings.ToLower(word)]
		switch {
		case strings.EqualFold(word, helmPlain):
			return nil, false, nil
		case !known:
			return nil, true, fleet.WithHint(fleet.Invalid("annotation %s: %q is not known", helmHook, word), "Helm knows pre-install, post-install, pre-upgrade, post-upgrade, pre-delete, post-delete, pre-rollback, post-rollback and test")
		case e != nil && !slices.Contains(on, *e):
			on = append(on, *e)
		}
	}
	return together(on), true, nil
}

func phasesOf(key string, words []string) ([]Event, error) {
	var on []Event
	for _, word := range words {
		switch p := Phase(word); p {
		case PreSync, Sync, PostSync, SyncFail, PreDelete, PostDelete:
			if e := (Event{Phase: p}); !slices.Contains(on, e) {
				on = append(on, e)
			}
		case skip:
			return nil, nil
		default:
			return nil, fleet.WithHint(fleet.Invalid("annotation %s: %q is not known", key, word), "write "+phases+", or several with commas between")
		}
	}
	return on, nil
}

// together makes one event of a phase that comes at the first change and at
// later ones.
func together(on []Event) []Event {
	for _, p := range []Phase{PreSync, PostSync} {
		first, later := Event{p, Install}, Event{p, Upgrade}
		if i := slices.Index(on, first); i >= 0 && slices.Contains(on, later) {
			on[i] = Event{Phase: p}
			on = slices.DeleteFunc(on, func(e Event) bool { return e == later })
		}
	}
	return on
}

// policies are the words for what becomes of a hook's object. That what is left
// of an earlier run is deleted before the next is so for every hook: nothing
// could run twice otherwise.
var policies = map[string]map[string]struct{ success, failure bool }{
	PolicyAnnotation: argoCDPolicies, argoCDPolicy: argoCDPolicies,
	helmPolicy: {"before-hook-creation": {}, "hook-succeeded": {success: true}, "hook-failed": {failure: true}},
}

var argoCDPolicies = map[string]struct{ success, failure bool }{
	"BeforeHookCreation": {}, "HookSucceeded": {success: true}, "HookFailed": {failure: true},
}

func policy(a map[string]any) (success, failure bool, err error) {
	for _, key := range []string{PolicyAnnotation, argoCDPolicy, helmPolicy} {
		words, there, err := list(a, key)
		if err != nil {
			return false, false, err
		}
		for _, word := range words {
			p, known := policies[key][word]
			if !known {
				hint := "write BeforeHookCreation, HookSucceeded or HookFailed, or several with commas between"
				if key == helmPolicy {
					hint = "write before-hook-creation, hook-succeeded or hook-failed, or several with commas between"
				}
				return false, false, fleet.WithHint(fleet.Invalid("annotation %s: %q is not known", key, word), hint)
			}
			success, failure = success || p.success, failure || p.failure
		}
		if there {
			return success, failure, nil
		}
	}
	return false, false, nil
}

// list reads an annotation of words with commas between.
func list(a map[string]any, key string) (words []string, there bool, err error) {
	v, there := a[key]
	if !there {
		return nil, false, nil
	}
	text, ok := v.(string)
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	if !ok || len(words) == 0 {
		return nil, true, fleet.WithHint(fleet.Invalid("annotation %s: it is empty, or not a text", key), "say when it runs, or take the annotation away")
	}
	return words, true, nil
}
