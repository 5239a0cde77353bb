package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	removing       = "Removing"
	removeTimedOut = "RemoveTimedOut"
	pruning        = "Pruning"
	pruneTimedOut  = "PruneTimedOut"
)

// removeLook is how often it is looked whether what is being deleted is gone: a
// watch tells as well, but not of every object.
const removeLook = 5 * time.Second

// deletionOf is what becomes of an app's objects when it goes: as it was last
// wanted, because an App that is gone can't say.
func deletionOf(k state.App) v1alpha1.DeletionPolicy {
	if k.Deletion != "" {
		return k.Deletion
	}
	if s := keptSpec(k); s != nil {
		return s.Deletion()
	}
	return v1alpha1.DeletionPrune
}

// noteDeletion keeps what an App says of its own end, before anything else is made
// of it: it counts also where the change that brought it waits or fails.
func (e *Engine) noteDeletion(ctx context.Context, v *view) error {
	known := v.want != nil && v.doubt == nil && len(v.kept.Items) > 0
	if known && deletionOf(v.kept) != v.want.app.Spec.Deletion() {
		v.kept.Deletion = v.want.app.Spec.Deletion()
		return e.save(ctx, v.kept)
	}
	return nil
}

// fate is what becomes of the objects of an app that goes.
type fate struct {
	prune   []inventory.Item
	release []inventory.Item // they stay, and are nobody's
	foreign []inventory.Item // they never were the app's
	guard   string           // why a person has to confirm it, or ""
}

func fateOf(k state.App, applied []unit.Object) (fate, error) {
	leaving, staying, err := inventory.Staying(slices.Concat(k.Items, k.Made), applied)
	if err != nil {
		return fate{}, err
	}
	f := fate{prune: leaving}
	for _, it := range staying {
		if it.Foreign {
			f.foreign = append(f.foreign, it)
		} else {
			f.release = append(f.release, it)
		}
	}
	switch deletionOf(k) {
	case v1alpha1.DeletionOrphan:
		f.prune, f.release = nil, slices.Concat(f.prune, f.release)
	case v1alpha1.DeletionConfirm:
		f.guard = fmt.Sprintf("spec.deletionPolicy is Confirm: %d objects would be pruned", len(f.prune))
	}
	f.guard = cmp.Or(inventory.Precious(f.prune, "pruned"), f.guard)
	return f, nil
}

// stay are the objects that are left on the cluster.
func (f fate) stay() []inventory.Item { return slices.Concat(f.release, f.foreign) }

// giveUpOwned notes which objects are on their way out, and gives up those that stay.
func (e *Engine) giveUpOwned(ctx context.Context, kept *state.App, f fate) error {
	dropped(kept, f.foreign)
	e.dated(kept, fleet.NoDigest, &pause{reason: removing})
	if err := e.noteEnding(ctx, kept, slices.Concat(f.prune, f.release)); err != nil {
		return e.failedOr(kept.Name, err)
	}
	released, err := e.acting(*kept).Release(ctx, kept.Name, f.release)
	dropped(kept, released)
	if err != nil {
		kept.Halfway = true
		return e.failedOr(kept.Name, errors.Join(err, e.save(ctx, *kept)))
	}
	return nil
}

// beingTakenOff tells an app whose end was begun.
func beingTakenOff(kept state.App) bool {
	ending, stays := false, false
	for _, it := range kept.Items {
		ending, stays = ending || it.Ending, stays || !it.Ending && !it.Foreign
	}
	return ending && !stays || leavingByHooks(kept) || isOff(kept)
}

// isOff tells an app that is off the cluster but for what left it before.
func isOff(kept state.App) bool {
	return kept.Digest == fleet.NoDigest && len(kept.Items)+len(kept.Made) == 0 && len(kept.Left) > 0
}

// dropped takes objects off an app's books.
func dropped(kept *state.App, items []inventory.Item) {
	kept.Items, kept.Made = itemsWithout(kept.Items, items), itemsWithout(kept.Made, items)
}

// noteEnding writes down that objects are on their way out, before the first goes:
// nobody heals them then, and after a crash their end goes on.
func (e *Engine) noteEnding(ctx context.Context, kept *state.App, items []inventory.Item) error {
	ending := make(map[fleet.ObjectRef]bool, len(items))
	for _, it := range items {
		ending[versionless(it.Ref)] = true
	}
	moved := false
	kept.Items = slices.Clone(kept.Items)
	for i := range kept.Items {
		if it := &kept.Items[i]; ending[versionless(it.Ref)] && !it.Ending {
			it.Ending, moved = true, true
		}
	}
	if !moved {
		return nil
	}
	return e.save(ctx, *kept)
}

// pruneBackwards deletes items wave by wave, those first that were applied last. A
// wave begins when the one before is gone. Where tillGone is not set the last one
// only has to be begun, and what of it takes its time is left behind.
func (e *Engine) pruneBackwards(ctx context.Context, kept *state.App, items []inventory.Item, applied []unit.Object, tillGone bool) ([]apply.Leaving, error) {
	waves := order.Backwards(items, func(it inventory.Item) fleet.ObjectRef { return it.Ref }, applied)
	for i, wave := range waves {
		if !tillGone && i == len(waves)-1 {
			gone, still, err := e.acting(*kept).Prune(ctx, kept.Name, wave)
			e.leaveBehind(kept, gone, still)
			return nil, err
		}
		ask, seen := e.stillSeen(kept.Name, wave)
		gone, still, err := e.acting(*kept).Remove(ctx, kept.Name, ask)
		dropped(kept, gone)
		still = append(still, seen...)
		e.noteLeaving(kept.Name, still)
		if err != nil || len(still) > 0 {
			return still, err
		}
	}
	return nil, nil
}

// stillSeen parts a wave: what there is to ask about, and what was asked to go and
// is seen to be there still. A wave of a thousand is not asked about a thousand
// times. Of the latter the first is asked about all the same: what holds it is told.
func (e *Engine) stillSeen(name fleet.AppName, wave []inventory.Item) (ask []inventory.Item, seen []apply.Leaving) {
	e.mu.Lock()
	defer e.mu.Unlock()
	leaving := e.apps[name].going
	asked := false
	for _, it := range wave {
		l, waits := leaving[versionless(it.Ref)]
		if sight, there := e.parts.Eyes.See(it.Ref); waits && there && sight.UID == it.UID && asked {
			seen = append(seen, l)
			continue
		}
		asked = asked || waits
		ask = append(ask, it)
	}
	return ask, seen
}

func (e *Engine) noteLeaving(name fleet.AppName, still []apply.Leaving) {
	leaving := make(map[fleet.ObjectRef]apply.Leaving, len(still))
	for _, l := range still {
		leaving[versionless(l.Ref)] = l
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apps[name].going = leaving
}

// awaitEnd has an app wait until what is being deleted is gone.
func (e *Engine) awaitEnd(ctx context.Context, kept state.App, still []apply.Leaving) error {
	p := pause{reason: removing, message: "is taken off this cluster: " + areLeaving(still), hint: hintOf(still), within: waveWithin(kept), look: removeLook}
	e.dated(&kept, fleet.NoDigest, &p)
	if err := e.saveFewer(ctx, kept); err != nil {
		return err
	}
	e.pauseFor(kept.Name, p, nil)
	return nil
}

// saveFewer keeps an app's state where objects of it are gone, or all that was applied.
func (e *Engine) saveFewer(ctx context.Context, kept state.App) error {
	e.mu.Lock()
	was := e.apps[kept.Name].kept
	e.mu.Unlock()
	if len(was.Items)+len(was.Made) == len(kept.Items)+len(kept.Made) && was.Digest == kept.Digest {
		return nil
	}
	return e.save(ctx, kept)
}

// fewNames of what is being deleted are in a message.
const fewNames = 3

func areLeaving(still []apply.Leaving) string {
	var names []string
	for _, l := range still[:min(fewNames, len(still))] {
		names = append(names, l.String())
	}
	text := strings.Join(names, ", ")
	switch n := len(still) - len(names); {
	case n > 0:
		return fmt.Sprintf("%s and %d more are being deleted", text, n)
	case len(still) > 1:
		return text + " are being deleted"
	}
	return text + " is being deleted"
}

// clearUp ends what hooks of a failed try left, and prunes what left the app.
func (e *Engine) clearUp(ctx context.Context, kept *state.App, c change, d inventory.Delta) (waits *pause, err error) {
	if err := e.endFailHooks(ctx, kept, c); err != nil || len(d.Prune)+len(d.Keep) == 0 {
		return nil, err
	}
	return e.pruneLeft(ctx, kept, c, d)
}

// pruneLeft deletes what left an app with a change, in the waves backwards. Where
// an earlier wave has to wait for a later one's end, the change waits.
func (e *Engine) pruneLeft(ctx context.Context, kept *state.App, c change, left inventory.Delta) (waits *pause, err error) {
	applied, err := kept.Applied()
	if err != nil {
		return nil, err
	}
	released, err := e.acting(*kept).Release(ctx, kept.Name, slices.DeleteFunc(slices.Clone(left.Keep), func(it inventory.Item) bool { return it.Foreign }))
	dropped(kept, released)
	if err != nil {
		return nil, err
	}
	if len(order.Backwards(left.Prune, func(it inventory.Item) fleet.ObjectRef { return it.Ref }, applied)) > 1 {
		e.dated(kept, c.digest, &pause{reason: pruning})
		if err := e.noteEnding(ctx, kept, left.Prune); err != nil {
			return nil, err
		}
	}
	e.leaving(kept.Name, left.Prune)
	still, err := e.pruneBackwards(ctx, kept, left.Prune, applied, false)
	if err != nil || len(still) == 0 {
		return nil, err
	}
	if err := e.saveFewer(ctx, *kept); err != nil {
		return nil, err
	}
	return &pause{reason: pruning, message: areLeaving(still) + ", and what comes before them waits", hint: hintOf(still), within: c.waveWithin, look: removeLook}, nil
}
