package reconcile

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// remove takes an app off the cluster that is not wanted here any more: at once
// where no approval is needed and nothing precious is among its objects,
// otherwise when its plan was let through. It tells whether the app is gone.
func (e *Engine) remove(ctx context.Context, v view) (bool, error) {
	kept := v.kept
	if len(kept.Items)+len(kept.Made) == 0 && !leavingByHooks(kept) {
		return e.removed(ctx, kept)
	}
	applied, err := kept.Applied()
	if err != nil {
		return false, err
	}
	f, err := fateOf(kept, applied)
	if err != nil {
		return false, e.failedOr(kept.Name, err)
	}
	spec := keptSpec(kept)
	c, err := removal(v, spec, applied)
	if err != nil {
		return false, e.failedOr(kept.Name, err)
	}
	var asked *v1alpha1.App
	if spec != nil {
		asked = &v1alpha1.App{Spec: *spec}
	}
	pass, err := e.pass(ctx, &kept, proposal{
		action: fleet.ActionRemove, to: fleet.NoDigest, revision: e.headRevision(),
		delta: inventory.Delta{Prune: f.prune, Keep: f.stay()}, demands: e.demands(kept.Name, asked), account: kept.Account, guard: f.guard, hooks: c.hooks,
	})
	if err != nil {
		return false, e.failedOr(kept.Name, err)
	}
	if !pass.open {
		pass.message = "is not for this cluster any more; its removal " + pass.message
		e.wait(kept.Name, pass, nil)
		return false, nil
	}
	done, err := e.takeOff(ctx, &kept, c, f, applied)
	if err != nil || !done {
		return false, err
	}
	return e.removed(ctx, kept)
}

// removed forgets an app that has nothing any more, when what left it before is gone
// as well.
func (e *Engine) removed(ctx context.Context, kept state.App) (bool, error) {
	e.mu.Lock()
	a := e.apps[kept.Name]
	still := a.stillLeft(kept)
	e.mu.Unlock()
	if len(still) > 0 {
		kept.Digest = fleet.NoDigest // should the app come back, all of it is new
		return false, e.awaitEnd(ctx, kept, still)
	}
	e.mu.Lock()
	e.disown(a)
	a.kept = kept // should it not be forgotten at once, nothing is there to heal
	e.mu.Unlock()
	if len(kept.History) > 0 {
		e.parts.Record.Event(kept.Name, false, "Removed", "the app is off this cluster")
	}
	return true, e.forget(ctx, kept.Name)
}

// forget drops what is kept of an app that owns nothing, and has the root
// delete its App object.
func (e *Engine) forget(ctx context.Context, name fleet.AppName) error {
	if err := e.parts.Memory.DeleteApp(ctx, name); err != nil {
		return written(err)
	}
	e.mu.Lock()
	if a := e.apps[name]; a != nil {
		e.disown(a)
		delete(e.apps, name)
	}
	delete(e.blocked, name)
	e.world.moved = true // what it owned is free for others
	e.mu.Unlock()
	e.reads.forget(name)
	e.parts.Sources.Drop(name)
	e.parts.Reports.Gone(name)
	e.work.Add(e.root)
	return nil
}

func keptSpec(k state.App) *v1alpha1.AppSpec {
	var s v1alpha1.AppSpec
	if len(k.Spec) == 0 || json.Unmarshal(k.Spec, &s) != nil {
		return nil
	}
	return &s
}

func (e *Engine) headRevision() fleet.Revision {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.revision()
}

// keepObjects replaces, among the objects that were last applied, those of one sort.
func keepObjects(k *state.App, objects []unit.Object, sort func(fleet.ObjectRef) bool) error {
	before, err := k.Applied()
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(before, func(o unit.Object) bool { return sort(o.Ref) })
	return k.SetObjects(append(rest, objects...))
}
