package reconcile

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	recreating       = "Recreating"
	recreateTimedOut = "RecreateTimedOut"
)

// recreateLook is how often it is looked whether what is being deleted is gone:
// a watch tells as well, but not of an object that lost its labels.
const recreateLook = 5 * time.Second

// weigh compares a change with what is owned, and settles what becomes of what
// leaves, and of what can't be changed.
func (e *Engine) weigh(ctx context.Context, kept state.App, c change, mine []inventory.Item) (inventory.Delta, error) {
	d := inventory.Compare(inventory.Yielding(c.objects, mine), mine)
	if len(d.Prune) > 0 {
		applied, err := kept.Applied()
		if err != nil {
			return d, err
		}
		if d.Prune, d.Keep, err = inventory.Staying(d.Prune, applied); err != nil {
			return d, err
		}
	}
	forced := slices.DeleteFunc(slices.Clone(d.Apply), func(o unit.Object) bool { return !o.Asks.Recreate })
	if len(forced) == 0 || len(mine) == 0 {
		return d, nil
	}
	var err error
	d.Recreate, err = e.parts.Cluster.As(kept.Name, c.account).Refused(ctx, kept.Name, forced, mine)
	return d, err
}

// guarded says why a delta needs a person's confirmation, "" where it needs none.
func (e *Engine) guarded(d inventory.Delta, wanted, owned int) string {
	if why := e.cfg.Guard.Check(d.Prune, wanted, owned); why != "" {
		return why
	}
	return inventory.Precious(d.Recreate, "deleted and created anew")
}

// clearAway deletes what is in the way of a wave's objects. It waits for
// nothing: it gives the objects that can be applied now, and says what the
// others wait for.
//
// Before anything is deleted it is written down that the objects may not be
// there: nobody heals them then to what they were, and after a crash the change
// goes on from there.
func (e *Engine) clearAway(ctx context.Context, kept *state.App, c change, wave int, send []unit.Object, d inventory.Delta) (now []unit.Object, waits *pause, err error) {
	var items []inventory.Item
	for _, it := range d.Recreate {
		if slices.ContainsFunc(send, func(o unit.Object) bool { return o.Ref.Same(it.Ref) }) {
			items = append(items, it)
		}
	}
	if len(items) == 0 {
		return send, nil, nil
	}
	waits = &pause{reason: recreating, of: strconv.Itoa(wave), within: c.waveWithin, look: recreateLook}
	e.dated(kept, c.digest, waits)
	if unsure(kept, items) {
		if err := e.save(ctx, *kept); err != nil {
			return nil, nil, err
		}
	}
	still, err := e.acting(*kept).Clear(ctx, items)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range send {
		if !slices.ContainsFunc(still, func(l apply.Leaving) bool { return l.Ref.Same(o.Ref) }) {
			now = append(now, o)
		}
	}
	if waits.message = waitsForEnd(still); waits.message == "" {
		return now, nil, nil
	}
	waits.hint = hintOf(still)
	return now, waits, nil
}

func waitsForEnd(still []apply.Leaving) string {
	if len(still) == 0 {
		return ""
	}
	names := make([]string, len(still))
	for i, l := range still {
		names[i] = l.String()
	}
	return strings.Join(names, ", ") + " is being deleted, to be created anew"
}

// unsure notes of items that it is not known whether they are there, and tells
// whether that is new.
func unsure(kept *state.App, items []inventory.Item) bool {
	moved := false
	kept.Items = slices.Clone(kept.Items)
	for i, it := range kept.Items {
		if it.UID != "" && slices.ContainsFunc(items, func(d inventory.Item) bool { return d.Ref.Same(it.Ref) }) {
			kept.Items[i] = inventory.Item{Ref: it.Ref}
			moved = true
		}
	}
	return moved
}

// without leaves out the objects of the items.
func without(objects []unit.Object, items []inventory.Item) []unit.Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o unit.Object) bool {
		return slices.ContainsFunc(items, func(it inventory.Item) bool { return it.Ref.Same(o.Ref) })
	})
}

// differing gives, of what differs, the objects of one wave.
func differing(wave []unit.Object, differs map[fleet.ObjectRef]unit.Object) []unit.Object {
	var send []unit.Object
	for _, o := range wave {
		if o, ok := differs[versionless(o.Ref)]; ok {
			send = append(send, o)
		}
	}
	return send
}
