package reconcile

import (
	"context"
	"errors"
	"slices"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// removal is the change that takes an app off the cluster, with the hooks that
// run for it: those of what was applied last.
func removal(v view, spec *v1alpha1.AppSpec, applied []unit.Object) (change, error) {
	c := change{digest: fleet.NoDigest, labels: labelsHash(v.facts.Labels), retry: v.retry}
	helmToo := true
	if spec != nil {
		c.waveWithin, helmToo = spec.Sync.WaveWithin(), runsHelmHooks(spec.Source.Helm)
	}
	if deletionOf(v.kept) == v1alpha1.DeletionOrphan {
		return c, nil // all stays, and is not to be cleaned up after
	}
	_, all, err := hooks.Part(applied, helmToo)
	c.hooks = slices.DeleteFunc(all, func(h hooks.Hook) bool {
		return !h.Runs(hooks.PreDelete, false) && !h.Runs(hooks.PostDelete, false)
	})
	return c, err
}

// leavingByHooks tells an app whose objects are gone, and whose last hooks are not done.
func leavingByHooks(kept state.App) bool {
	return kept.Run != nil && kept.Run.Digest == fleet.NoDigest && !kept.Run.Done
}

// takeOff carries an app's end out: what leaves is deleted, and what stays given up,
// between its PreDelete and PostDelete hooks. It tells whether all of that is done;
// otherwise it goes on from there when it is called again.
func (e *Engine) takeOff(ctx context.Context, kept *state.App, c change, f fate, applied []unit.Object) (bool, error) {
	if len(c.hooks) > 0 && e.begin(kept, c, false) {
		if err := e.save(ctx, *kept); err != nil {
			return false, err
		}
	}
	if err := e.watchKinds(ctx, hooks.Objects(c.hooks)); err != nil {
		return false, e.failedOr(kept.Name, err)
	}
	if done, err := e.removalHooks(ctx, kept, c, hooks.PreDelete); !done {
		return false, err
	}
	if err := e.giveUpOwned(ctx, kept, f); err != nil {
		return false, err
	}
	if done, err := e.pruneLeaving(ctx, kept, leavingNow(*kept, c, f.prune, hooks.PreDelete), applied); !done {
		return false, err
	}
	if running(kept, c) == nil {
		return true, nil
	}
	kept.Digest = fleet.NoDigest // should the app come back, all of it is new
	if done, err := e.removalHooks(ctx, kept, c, hooks.PostDelete); !done {
		return false, err
	}
	return e.pruneLeaving(ctx, kept, leavingNow(*kept, c, f.prune, hooks.PostDelete), applied)
}

// leavingNow is what is deleted when the hooks of a phase are done: what leaves,
// as it is now, with what those hooks left. What PostDelete hooks need stays
// until they are.
func leavingNow(kept state.App, c change, leaving []inventory.Item, p hooks.Phase) []inventory.Item {
	isHook := func(it inventory.Item, p hooks.Phase) bool {
		return running(&kept, c) != nil && slices.ContainsFunc(c.hooks, func(h hooks.Hook) bool { return h.Object.Ref.Same(it.Ref) && h.Runs(p, false) })
	}
	return slices.DeleteFunc(slices.Concat(kept.Items, kept.Made), func(it inventory.Item) bool {
		leaves := slices.ContainsFunc(leaving, func(l inventory.Item) bool { return l.Ref.Same(it.Ref) })
		return p == hooks.PreDelete && isHook(it, hooks.PostDelete) || !leaves && !isHook(it, p)
	})
}

// pruneLeaving tells whether what leaves is gone.
func (e *Engine) pruneLeaving(ctx context.Context, kept *state.App, leaving []inventory.Item, applied []unit.Object) (bool, error) {
	e.leaving(kept.Name, leaving)
	still, err := e.pruneBackwards(ctx, kept, leaving, applied, true)
	if err != nil {
		kept.Halfway = true
		return false, e.failedOr(kept.Name, errors.Join(err, e.save(ctx, *kept)))
	}
	if len(still) > 0 {
		return false, e.awaitEnd(ctx, *kept, still)
	}
	return true, nil
}

// removalHooks runs the hooks of a phase, and tells whether they are done. One
// that failed keeps what is there, until it is tried again.
func (e *Engine) removalHooks(ctx context.Context, kept *state.App, c change, p hooks.Phase) (bool, error) {
	waits, err := e.runHooks(ctx, kept, c, p)
	if failed, ok := errors.AsType[*hookError](err); ok {
		e.hookTrouble(kept.Name, failed.Error(), "bring the App back, without the hook or with a mended one")
		return false, e.save(ctx, *kept)
	}
	if err != nil {
		return false, e.failedOr(kept.Name, errors.Join(err, e.save(ctx, *kept)))
	}
	if waits != nil {
		e.pauseFor(kept.Name, *waits, nil)
		return false, e.save(ctx, *kept)
	}
	return true, nil
}
