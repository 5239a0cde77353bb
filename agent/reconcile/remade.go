package reconcile

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/apply"
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
	return e.saveRemade(ctx, name, func(i inventory.Item) bool { return i.Ref.Same(it.Ref) })
}

// saveRemade writes down that items are made anew, and nothing that is under way.
func (e *Engine) saveRemade(ctx context.Context, name fleet.AppName, which func(inventory.Item) bool) error {
	e.mu.Lock()
	kept := e.apps[name].kept
	e.mu.Unlock()
	kept.Items = slices.Clone(kept.Items)
	if !remaking(kept.Items, which) {
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

// send applies objects, each by the uid that it is known by. One that was deleted since
// a watch saw it is sent once more, when it is noted that it is made anew. What was
// applied is noted in kept.
func (e *Engine) send(ctx context.Context, as Cluster, kept *state.App, objects []unit.Object) (done []unit.Object, err error) {
	for again := range 2 {
		var applied []apply.Applied
		applied, err = as.Apply(ctx, kept.Name, inventory.ByUID(objects, kept.Items))
		kept.Items = confirm(kept.Items, applied)
		for _, a := range applied {
			done = append(done, a.Object)
		}
		replaced := apply.Replaced(err)
		if again > 0 || len(replaced) == 0 {
			break
		}
		remade := func(it inventory.Item) bool { return slices.ContainsFunc(replaced, it.Ref.Same) }
		if err := e.saveRemade(ctx, kept.Name, remade); err != nil {
			return done, err
		}
		remaking(kept.Items, remade)
		objects = slices.DeleteFunc(slices.Clone(objects), func(o unit.Object) bool {
			return slices.ContainsFunc(done, func(d unit.Object) bool { return d.Ref.Same(o.Ref) })
		})
	}
	return done, err
}

// healAs puts an object back that is known by its uid, or takes what has its name. One
// that was deleted since it was looked at is made anew, when that is noted.
func (e *Engine) healAs(ctx context.Context, name fleet.AppName, it inventory.Item, o unit.Object, live *unstructured.Unstructured, over bool) (apply.Applied, error) {
	if err := e.noteRemade(ctx, name, it, live); err != nil {
		return apply.Applied{}, err
	}
	if live != nil && string(live.GetUID()) == it.UID {
		o.UID = it.UID
	}
	if !over {
		live = nil
	}
	done, err := e.actingOn(name, it.Ref).Heal(ctx, name, o, live)
	if len(apply.Replaced(err)) == 0 {
		return done, err
	}
	if err := e.noteRemade(ctx, name, it, nil); err != nil {
		return done, err
	}
	o.UID = ""
	return e.actingOn(name, it.Ref).Heal(ctx, name, o, nil)
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
