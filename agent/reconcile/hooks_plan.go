package reconcile

import (
	"encoding/json"
	"slices"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// withHooks adds to a plan's changes the hooks that come with it: when each runs,
// and what is other than when it was applied last. The API server has no say in
// that: what an earlier run left is no measure.
func withHooks(changes []fleet.Change, all []hooks.Hook, applied []unit.Object, key []byte) ([]fleet.Change, error) {
	for _, h := range all {
		c := fleet.Change{Object: h.Object.Ref, Action: fleet.RunHook, Note: h.String()}
		i := slices.IndexFunc(applied, func(o unit.Object) bool { return o.Ref.Same(h.Object.Ref) })
		if i >= 0 {
			var before, now map[string]any
			object := withOldMasks([]unit.Object{h.Object}, applied)[0]
			if err := json.Unmarshal(applied[i].JSON, &before); err != nil {
				return nil, err
			}
			if err := json.Unmarshal(object.JSON, &now); err != nil {
				return nil, err
			}
			c.Fields = plan.Diff(object, before, now, key).Fields
		}
		changes = append(changes, c)
	}
	slices.SortStableFunc(changes, func(a, b fleet.Change) int { return a.Object.Compare(b.Object) })
	return changes, nil
}
