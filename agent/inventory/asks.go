package inventory

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The annotations by which an object asks for something of its own. Those of
// other tools mean what they mean there; ours win where both are there.
const (
	ForceAnnotation = "capstan.dev/force" // "true": recreated where a change is refused as immutable
	PruneAnnotation = "capstan.dev/prune" // "false": it stays when it leaves the app
	HealAnnotation  = "capstan.dev/heal"  // "false": drift of it is reported only
	ApplyAnnotation = "capstan.dev/apply" // IfAbsent: created, and never changed after

	argoCDOptions = "argocd.argoproj.io/sync-options"   // Prune=false, among others
	helmPolicy    = "helm.sh/resource-policy"           // keep
	fluxApply     = "kustomize.toolkit.fluxcd.io/ssa"   // IfNotPresent
	fluxPrune     = "kustomize.toolkit.fluxcd.io/prune" // disabled

	ifAbsent = "IfAbsent"
)

// Asking notes on each object what it asks for. force is what the app asks for
// those that say nothing. The error names the object whose annotation is wrong.
func Asking(objects []unit.Object, force bool) ([]unit.Object, error) {
	out := slices.Clone(objects)
	for i, o := range out {
		asks, err := AsksOf(o, force)
		if err != nil {
			return nil, err
		}
		out[i].Asks = asks
	}
	return out, nil
}

// AsksOf reads what one object asks for.
func AsksOf(o unit.Object, force bool) (unit.Asks, error) {
	var head struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(o.JSON, &head); err != nil {
		return unit.Asks{}, fleet.Invalid("%s: its annotations can't be read", o.Ref)
	}
	asks, err := asksOf(head.Metadata.Annotations, force)
	if err != nil {
		return asks, fleet.WithHint(fmt.Errorf("%s: %w", o.Ref, err), fleet.Hint(err))
	}
	return asks, nil
}

func asksOf(annotations map[string]any, force bool) (unit.Asks, error) {
	var a unit.Asks
	foreign := func(key string) string {
		text, _ := annotations[key].(string)
		return text
	}
	prune, err := yesOrNo(annotations, PruneAnnotation, !foreignKeeps(foreign))
	if err != nil {
		return a, err
	}
	heal, err := yesOrNo(annotations, HealAnnotation, true)
	if err != nil {
		return a, err
	}
	if a.Recreate, err = yesOrNo(annotations, ForceAnnotation, force); err != nil {
		return a, err
	}
	a.Stay, a.Unhealed, a.IfAbsent = !prune, !heal, foreign(fluxApply) == "IfNotPresent"
	if v, there := annotations[ApplyAnnotation]; there {
		if v != ifAbsent {
			return a, wrong(ApplyAnnotation, v, "the one value it has is "+ifAbsent)
		}
		a.IfAbsent = true
	}
	return a, nil
}

func foreignKeeps(value func(string) string) bool {
	for option := range strings.SplitSeq(value(argoCDOptions), ",") {
		if strings.TrimSpace(option) == "Prune=false" {
			return true
		}
	}
	return value(helmPolicy) == "keep" || value(fluxPrune) == "disabled"
}

func yesOrNo(annotations map[string]any, key string, otherwise bool) (bool, error) {
	v, there := annotations[key]
	switch {
	case !there:
		return otherwise, nil
	case v == "true":
		return true, nil
	case v == "false":
		return false, nil
	}
	return false, wrong(key, v, `write "true" or "false", in quotes`)
}

func wrong(key string, value any, hint string) error {
	return fleet.WithHint(fleet.Invalid("annotation %s: %v is not a value of it", key, raw(value)), hint)
}

func raw(v any) string {
	b, _ := json.Marshal(v) // a decoded JSON value always encodes
	return string(b)
}

// Staying parts what leaves an app: what is to be pruned, and what stays on the
// cluster, because it asked for that when it was applied last, or was there
// before the app.
func Staying(leaving []Item, applied []unit.Object) (prune, stay []Item, err error) {
	asked := map[fleet.ObjectRef]unit.Object{}
	for _, o := range applied {
		asked[versionless(o.Ref)] = o
	}
	for _, it := range leaving {
		keep := it.Foreign
		if o, ok := asked[versionless(it.Ref)]; ok && !keep {
			asks, err := AsksOf(o, false)
			if err != nil {
				return nil, nil, err
			}
			keep = asks.Stay
		}
		if keep {
			stay = append(stay, it)
		} else {
			prune = append(prune, it)
		}
	}
	return prune, stay, nil
}

// KeepsItself tells a live object that asks to stay.
func KeepsItself(annotations map[string]string) bool {
	some := make(map[string]any, len(annotations))
	for k, v := range annotations {
		some[k] = v
	}
	asks, err := asksOf(some, false)
	return err != nil || asks.Stay
}
