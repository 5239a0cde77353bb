package reconcile

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What is owned is known by its uid. Where an object is made in the place of one
// that is gone, or is about to be deleted, that is written down before: should the
// agent end before it can note the new uid, and Git give the name up meanwhile, it
// would otherwise take the new object for a stranger's, and leave it for ever.

// remaking notes of items that objects are made in their place, and tells whether
// that is new.
func remaking(items []inventory.Item, which func(inventory.Item) bool) bool {
	moved := false
	for i, it := range items {
		if it.UID != "" && !it.Remade && which(it) {
			items[i].Remade, moved = true, true
		}
	}
	return moved
}

// noteRemade writes down, before an object is put back, that it is made anew, or that
// another in its place is taken.
func (e *Engine) noteRemade(ctx context.Context, name fleet.AppName, it inventory.Item, live *unstructured.Unstructured) error {
	if live != nil && string(live.GetUID()) == it.UID {
		return nil
	}
	e.mu.Lock()
	kept := e.apps[name].kept
	e.mu.Unlock()
	kept.Items = slices.Clone(kept.Items)
	if !remaking(kept.Items, func(i inventory.Item) bool { return i.Ref.Same(it.Ref) }) {
		return nil
	}
	return e.save(ctx, kept)
}

// expectAnew notes which of the objects that are sent will be made anew, because
// somebody deleted what was there: it is seen to be gone, or can't be seen. It tells
// whether that is new. It waits for no watch.
func (e *Engine) expectAnew(kept *state.App, send []unit.Object) bool {
	sent := make(map[fleet.ObjectRef]bool, len(send))
	for _, o := range send {
		sent[versionless(o.Ref)] = true
	}
	kept.Items = slices.Clone(kept.Items)
	return remaking(kept.Items, func(it inventory.Item) bool {
		if !sent[versionless(it.Ref)] {
			return false
		}
		sight, seen := e.parts.Eyes.See(it.Ref)
		return !seen || sight.UID != it.UID
	})
}

// findMade looks for hooks which were being made anew when the agent ended, for a
// change that nobody wants any more: nothing else would find out their uids.
func (e *Engine) findMade(ctx context.Context, kept *state.App) error {
	kept.Made = slices.Clone(kept.Made)
	for i, it := range kept.Made {
		if !it.Remade {
			continue
		}
		live, err := e.acting(*kept).Get(ctx, it.Ref)
		if errors.Is(err, fleet.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		l := live.GetLabels()
		if l[inventory.AppLabel] == kept.Name.Name && l[inventory.NamespaceLabel] == kept.Name.Namespace {
			kept.Made[i].UID, kept.Made[i].Remade = string(live.GetUID()), false
		}
	}
	return nil
}
