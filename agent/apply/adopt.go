package apply

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/ssa"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// adopt takes over what the tool before us holds of an object that was just
// applied for the first time, and applies it again: what Git does not have goes
// then, kubectl's copy of the object in an annotation too. Values that Git has do
// not change. live is what the first apply gave, so that an object that nobody
// had before costs no request.
func (c *Client) adopt(ctx context.Context, app fleet.AppName, o unit.Object, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if !o.Asks.Adopt || len(predecessorsOf(live)) == 0 {
		return live, nil
	}
	if err := c.takeOver(ctx, o, live, inventory.IsPredecessor); err != nil {
		return nil, err
	}
	return c.patch(ctx, app, o, false)
}

// predecessorsOf names the tools that hold fields of an object.
func predecessorsOf(live *unstructured.Unstructured) []string {
	var out []string
	for _, m := range live.GetManagedFields() {
		if m.Subresource == "" && inventory.IsPredecessor(m.Manager) && !slices.Contains(out, m.Manager) {
			out = append(out, m.Manager)
		}
	}
	return out
}

// takeOver makes the fields ours that some managers hold, but for what is left to
// them: it is not sent, and would go. It is refused where the object moved since it
// was read: who holds what is written as a whole.
func (c *Client) takeOver(ctx context.Context, o unit.Object, live *unstructured.Unstructured, whose func(string) bool) error {
	managers, left := inventory.Apart(live.GetManagedFields(), o.Yield, whose)
	live = live.DeepCopy()
	live.SetManagedFields(managers)
	var theirs []ssa.FieldManager
	for _, m := range managers {
		if whose(m.Manager) {
			theirs = append(theirs, ssa.FieldManager{Name: m.Manager, ExactMatch: true, OperationType: m.Operation})
		}
	}
	patch, err := ssa.PatchReplaceFieldsManagers(live, theirs, inventory.FieldManager)
	if err != nil || len(patch) == 0 {
		return err
	}
	patch[0].Value = append(patch[0].Value, left...)
	body, err := json.Marshal([]any{patch[0], map[string]string{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()}})
	if err != nil {
		return err
	}
	r, err := c.resource(o.Ref)
	if err != nil {
		return err
	}
	_, err = r.Patch(ctx, o.Ref.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: inventory.FieldManager})
	return err
}

// noteAdoption says in a plan that an object is taken over, and from whom.
func noteAdoption(ch *fleet.Change, o unit.Object, live *unstructured.Unstructured) {
	before := predecessorsOf(live)
	if !o.Asks.Adopt || len(before) == 0 {
		return
	}
	if ch.Action == fleet.Unchanged {
		ch.Action = fleet.Update
	}
	ch.Note = "is there already, and is adopted: what " + strings.Join(before, ", ") + " set is taken over, and what of it Git does not have goes"
}
