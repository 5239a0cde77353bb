package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// beginHooks makes the objects of those hooks of a wave that have none yet, and
// gives their names. What an earlier run left in their place is deleted first;
// while it is on its way out, that is what waits says.
//
// It is written down that an object may be there before it is made, so none is
// ever forgotten, and each carries the run it was made for, so none is made twice.
func (e *Engine) beginHooks(ctx context.Context, kept *state.App, c change, p hooks.Phase, wave []hooks.Hook) (fresh []fleet.ObjectRef, waits *pause, err error) {
	todo := kept.Run.Unbegun(p, wave)
	if len(todo) == 0 {
		return nil, nil, nil
	}
	if expect(kept, p, todo, e.parts.Now().UTC()) {
		if err := e.save(ctx, *kept); err != nil {
			return nil, nil, err
		}
	}
	create, taken, away, err := e.inPlaceOf(ctx, *kept, p, todo)
	if err != nil {
		return nil, nil, err
	}
	if len(away) > 0 {
		still, err := e.acting(*kept).Clear(ctx, away)
		if err != nil {
			return nil, nil, err
		}
		if ends := waitsForEnd(still); ends != "" {
			ran, _ := kept.Run.Of(todo[0].Object.Ref, p)
			return nil, &pause{reason: waitsForHook, message: string(p) + " hooks wait: " + ends, since: ran.Began, within: c.waveWithin, look: recreateLook}, nil
		}
	}
	err = e.makeHooks(ctx, kept, p, create)
	for _, it := range taken {
		made(kept, p, it)
	}
	if serr := e.save(ctx, *kept); serr != nil {
		return nil, nil, errors.Join(err, serr)
	}
	for _, o := range create {
		fresh = append(fresh, o.Ref)
	}
	return fresh, nil, err
}

// expect notes that the hooks are begun and that their objects may be there, and
// tells whether that is new.
func expect(kept *state.App, p hooks.Phase, todo []hooks.Hook, now time.Time) bool {
	moved := false
	for _, h := range todo {
		if _, begun := kept.Run.Of(h.Object.Ref, p); !begun {
			kept.Run = kept.Run.Noting(hooks.Ran{Ref: h.Object.Ref, Phase: p, Began: now})
			moved = true
		}
	}
	before := len(kept.Made)
	kept.Made = inventory.Extend(kept.Made, hooks.Objects(todo))
	moved = moved || len(kept.Made) > before
	return remaking(kept.Made, func(it inventory.Item) bool {
		return slices.ContainsFunc(todo, func(h hooks.Hook) bool { return h.Object.Ref.Same(it.Ref) })
	}) || moved
}

// inPlaceOf looks at what is there in place of the hooks' objects: what is to be
// made, what was made and not noted, and what has to go first.
func (e *Engine) inPlaceOf(ctx context.Context, kept state.App, p hooks.Phase, todo []hooks.Hook) (create []unit.Object, taken, away []inventory.Item, err error) {
	var errs []error
	for _, h := range todo {
		ref := h.Object.Ref
		live, err := e.acting(kept).Get(ctx, ref)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) && !isUnknownKind(err) {
			return nil, nil, nil, err
		}
		object, err := hooks.Stamped(h.Object, kept.Run.Stamp(p))
		if err != nil {
			return nil, nil, nil, err
		}
		known := ""
		if i := slices.IndexFunc(kept.Made, func(it inventory.Item) bool { return it.Ref.Same(ref) }); i >= 0 {
			known = kept.Made[i].UID
		}
		switch standing := hooks.Stand(live, kept.Name, kept.Run.Stamp(p), known); {
		case standing == hooks.Begun:
			taken = append(taken, inventory.Item{Ref: ref, UID: string(live.GetUID())})
		case standing == hooks.Foreign && !hooks.IsKept(ref):
			errs = append(errs, foreignHook(kept, p, ref, live))
		case standing == hooks.InTheWay && !hooks.IsKept(ref):
			away = append(away, inventory.Item{Ref: ref, UID: string(live.GetUID())})
			create = append(create, object)
		default:
			create = append(create, object)
		}
	}
	return create, taken, away, errors.Join(errs...)
}

func foreignHook(kept state.App, p hooks.Phase, ref fleet.ObjectRef, live *unstructured.Unstructured) error {
	what := "and is no hook"
	if l := live.GetLabels(); l[inventory.AppLabel] != "" {
		what = fmt.Sprintf("and belongs to app %s/%s", l[inventory.NamespaceLabel], l[inventory.AppLabel])
	}
	return fleet.WithHint(fleet.Conflict("%s: an object of this name is there already, %s", hooks.Ran{Ref: ref, Phase: p}, what),
		fmt.Sprintf("give the hook of %s another name, or delete what is there", kept.Name))
}

// makeHooks makes the objects, first what others need to be there, and notes
// those that were made, also where it fails.
func (e *Engine) makeHooks(ctx context.Context, kept *state.App, p hooks.Phase, objects []unit.Object) error {
	first, then := hooks.Needed(objects)
	for _, some := range [][]unit.Object{first, then} {
		if len(some) == 0 {
			continue
		}
		applied, err := e.acting(*kept).Apply(ctx, kept.Name, some)
		for _, a := range applied {
			made(kept, p, inventory.Item{Ref: a.Object.Ref, UID: a.UID})
			e.parts.Record.Event(kept.Name, false, "HookStarted", hooks.Ran{Ref: a.Object.Ref, Phase: p}.String())
		}
		if err == nil {
			err = e.watchKinds(ctx, some) // those whose CRD came a moment ago
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// made notes the object that was made for a hook.
func made(kept *state.App, p hooks.Phase, it inventory.Item) {
	ran, _ := kept.Run.Of(it.Ref, p)
	ran.UID = it.UID
	kept.Run = kept.Run.Noting(ran)
	kept.Made = slices.Clone(kept.Made)
	for i := range kept.Made {
		if kept.Made[i].Ref.Same(it.Ref) {
			kept.Made[i] = it
		}
	}
}

// tidy deletes the objects of hooks that have ended, where their policy says so.
// It comes when the hooks of a phase are done, because some need others' objects.
func (e *Engine) tidy(ctx context.Context, kept *state.App, c change, p hooks.Phase) error {
	r := running(kept, c)
	if r == nil {
		return nil
	}
	leaving := r.Leaving(c.hooks, p, kept.Made)
	if len(leaving) == 0 {
		return nil
	}
	gone, still, err := e.acting(*kept).Prune(ctx, kept.Name, leaving)
	e.leaveBehind(kept, gone, still)
	return errors.Join(err, e.save(ctx, *kept))
}
