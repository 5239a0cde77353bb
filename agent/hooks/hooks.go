// Package hooks decides what runs around a change: which objects are hooks, in
// which phase and wave each runs, what of a run is done, and what becomes of a
// hook's object afterwards. It is pure: values in, values out.
package hooks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Phase is when a hook runs.
type Phase string

const (
	PreSync    Phase = "PreSync"    // before the first wave
	Sync       Phase = "Sync"       // with the wave of its number
	PostSync   Phase = "PostSync"   // when all is applied and well
	SyncFail   Phase = "SyncFail"   // when a change could not be carried out
	PreDelete  Phase = "PreDelete"  // before the app is taken off the cluster
	PostDelete Phase = "PostDelete" // when all else of it is gone
)

// Event is a phase, and of which changes.
type Event struct {
	Phase Phase
	Only  Only
}

// Only narrows an event to some changes: Helm's words tell the first from later ones.
type Only string

const (
	Any     Only = ""
	Install Only = "install" // nothing of the app was applied before
	Upgrade Only = "upgrade" // something was
)

// Hook is an object that is not kept on the cluster, but made for a change.
type Hook struct {
	Object unit.Object
	On     []Event // at least one
	Wave   int     // among the hooks of its phase; of a Sync hook among all objects
	// OnSuccess and OnFailure say that its object is deleted when it has ended so.
	OnSuccess, OnFailure bool
}

// Runs tells whether it runs in a phase; install: of an app's first change.
func (h Hook) Runs(p Phase, install bool) bool {
	return slices.ContainsFunc(h.On, func(e Event) bool {
		return e.Phase == p && (e.Only == Any || (e.Only == Install) == install)
	})
}

// String says when it runs and what becomes of it, for people who look at a plan.
func (h Hook) String() string {
	var when []string
	for _, e := range h.On {
		text := string(e.Phase)
		switch e.Only {
		case Any:
		case Install:
			text += " (first change only)"
		case Upgrade:
			text += " (not at the first change)"
		}
		when = append(when, text)
	}
	out := strings.Join(when, ", ") + " hook"
	if h.Wave != 0 {
		out += fmt.Sprintf(" of wave %d", h.Wave)
	}
	switch {
	case IsKept(h.Object.Ref):
		return out + "; applied in place, and never deleted by its policy"
	case h.OnSuccess && h.OnFailure:
		return out + "; deleted when it has ended"
	case h.OnSuccess:
		return out + "; deleted when it has succeeded"
	case h.OnFailure:
		return out + "; deleted when it has failed"
	}
	return out
}

// IsKept tells a kind whose objects take others, or data, with them when they
// are deleted: a hook of such a kind is applied in place.
func IsKept(r fleet.ObjectRef) bool {
	return inventory.Precious([]inventory.Item{{Ref: r}}, "") != ""
}

// EndsByItself tells a kind whose objects run to an end. What of one is
// suspended has not ended; of another kind it is as somebody wants it.
func EndsByItself(r fleet.ObjectRef) bool {
	return r.Group == "batch" && r.Kind == "Job" || r.Group == "" && r.Kind == "Pod"
}

// Wave is the hooks of a phase that run together.
type Wave struct {
	Number int
	Hooks  []Hook
}

// Waves are those of a phase, the lowest first.
func Waves(all []Hook, p Phase, install bool) []Wave {
	byNumber := map[int][]Hook{}
	for _, h := range all {
		if h.Runs(p, install) {
			byNumber[h.Wave] = append(byNumber[h.Wave], h)
		}
	}
	out := make([]Wave, 0, len(byNumber))
	for n, some := range byNumber {
		out = append(out, Wave{n, some})
	}
	slices.SortFunc(out, func(a, b Wave) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// Step is a wave of objects with the Sync hooks of the same number.
type Step struct {
	Number  int
	Objects []unit.Object
	Hooks   []Hook
}

// Merge puts waves of objects and of hooks in one order.
func Merge(waves []order.Wave, of []Wave) []Step {
	var out []Step
	for _, w := range waves {
		out = append(out, Step{Number: w.Number, Objects: w.Objects})
	}
	for _, w := range of {
		if i := slices.IndexFunc(out, func(s Step) bool { return s.Number == w.Number }); i >= 0 {
			out[i].Hooks = w.Hooks
		} else {
			out = append(out, Step{Number: w.Number, Hooks: w.Hooks})
		}
	}
	slices.SortFunc(out, func(a, b Step) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// Objects of the hooks.
func Objects(all []Hook) []unit.Object {
	out := make([]unit.Object, len(all))
	for i, h := range all {
		out[i] = h.Object
	}
	return out
}

// lent are kinds that what runs needs to be there, and that need nothing themselves.
var lent = []string{
	"Namespace", "CustomResourceDefinition", "ServiceAccount", "Secret", "ConfigMap", "Role", "RoleBinding", "ClusterRole",
	"ClusterRoleBinding", "PersistentVolume", "PersistentVolumeClaim", "Service", "NetworkPolicy", "PriorityClass", "ResourceQuota", "LimitRange",
}

// Needed parts objects of one wave into what the others need to be there, and the others.
func Needed(objects []unit.Object) (first, then []unit.Object) {
	for _, o := range objects {
		if slices.Contains(lent, o.Ref.Kind) {
			first = append(first, o)
		} else {
			then = append(then, o)
		}
	}
	return first, then
}
