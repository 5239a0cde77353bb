package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// An object belongs to one app. Where a commit takes it to another one, that waits
// until the first has given it up. Apps that exchange objects would wait for each
// other for ever: there, what others wait for is given up before anything is applied.

const waitsForApp = "WaitsForApp"

// exchangeLook is how often it is looked whether an object is free that an app waits
// for. Who gives one up says so; this is for what that may miss.
const exchangeLook = 5 * time.Second

// blocked is an app that was refused objects, because others have them.
type blocked struct {
	awaits map[fleet.ObjectRef]fleet.AppName // who has it
	wants  map[fleet.ObjectRef]bool          // all that it was to have
}

// taken says which of the objects an app can't have. Called with e.mu held.
func (e *Engine) taken(name fleet.AppName, objects []unit.Object) error {
	b := blocked{awaits: map[fleet.ObjectRef]fleet.AppName{}, wants: make(map[fleet.ObjectRef]bool, len(objects))}
	var first error
	for _, o := range objects {
		ref := versionless(o.Ref)
		b.wants[ref] = true
		by, has := e.owner[ref]
		if !has || by == name {
			continue
		}
		b.awaits[ref] = by
		if first == nil {
			first = fleet.WithHint(fleet.Conflict("%s is in two apps: %s has it already", o.Ref, by),
				"take it out of one of the two; what runs stays with "+by.String())
		}
	}
	if first == nil {
		delete(e.blocked, name)
		return nil
	}
	e.blocked[name] = b
	e.unclaim(name, b.wants)
	return first
}

// claimOrExchange is claim. Where an app can't have all of its objects yet, and others
// wait for it as well, exchange says so, and it is no error.
func (e *Engine) claimOrExchange(name fleet.AppName, objects []unit.Object) (exchange bool, err error) {
	err = e.claim(name, objects)
	switch {
	case err == nil:
		e.noteAsGit(name, false)
	case e.exchanges(name):
		return true, nil
	}
	return false, err
}

// unclaim gives up what an app claimed and does not want any more, and does not have.
// Called with e.mu held.
func (e *Engine) unclaim(name fleet.AppName, wants map[fleet.ObjectRef]bool) {
	a, has := e.apps[name], map[fleet.ObjectRef]bool{}
	for ref := range onCluster(a.kept) {
		has[ref] = true
	}
	a.claimed = slices.DeleteFunc(a.claimed, func(ref fleet.ObjectRef) bool {
		if wants[ref] || has[ref] {
			return false
		}
		delete(e.owner, ref)
		e.freed(ref)
		return true
	})
}

// freed has those looked at that wait for an object. Called with e.mu held.
func (e *Engine) freed(ref fleet.ObjectRef) {
	for name, b := range e.blocked {
		if _, waits := b.awaits[ref]; waits {
			e.now(name)
		}
	}
}

// exchanges tells that an app, which was refused objects just now, waits in the end
// for itself: each of those in between gives up what the one before it waits for.
func (e *Engine) exchanges(name fleet.AppName) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := map[fleet.AppName]bool{}
	var leads func(from fleet.AppName) bool
	leads = func(from fleet.AppName) bool {
		seen[from] = true
		back := false
		for ref, by := range e.blocked[from].awaits {
			if e.keeps(by, ref) {
				return false // both want it, and from will have nothing of its change
			}
			back = back || by == name || !seen[by] && leads(by)
		}
		return back
	}
	return leads(name)
}

// keeps tells that an app wants an object that it has. Called with e.mu held.
func (e *Engine) keeps(name fleet.AppName, ref fleet.ObjectRef) bool {
	if b, is := e.blocked[name]; is {
		return b.wants[ref]
	}
	a := e.apps[name]
	return a != nil && slices.Contains(a.claimed, ref)
}

// handOver gives up, of what leaves an app with a change that was let through, what
// others wait for. The change itself comes when the app can have what it waits for.
func (e *Engine) handOver(ctx context.Context, kept state.App, c change, d inventory.Delta) error {
	name := kept.Name
	kept.Deletion, kept.Halfway = c.deletion, true // the account is new until all was checked for it
	waits, err := e.pruneLeft(ctx, &kept, c, e.awaited(name, d))
	if err = errors.Join(err, e.save(ctx, kept)); err != nil {
		return e.failedOr(name, err)
	}
	if waits == nil {
		waits = &pause{reason: waitsForApp, message: e.whyBlocked(name), within: c.waveWithin, look: exchangeLook}
	}
	e.pauseFor(name, *waits, nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unclaim(name, e.blocked[name].wants)
	e.apps[name].last = nil // it is rendered anew
	return nil
}

// awaited is what of a change's end others wait for.
func (e *Engine) awaited(name fleet.AppName, d inventory.Delta) inventory.Delta {
	e.mu.Lock()
	defer e.mu.Unlock()
	nobody := func(it inventory.Item) bool {
		for _, b := range e.blocked {
			if b.awaits[versionless(it.Ref)] == name {
				return false
			}
		}
		return true
	}
	return inventory.Delta{Prune: slices.DeleteFunc(slices.Clone(d.Prune), nobody), Keep: slices.DeleteFunc(slices.Clone(d.Keep), nobody)}
}

// whyBlocked names what an app waits for.
func (e *Engine) whyBlocked(name fleet.AppName) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for ref, by := range e.blocked[name].awaits {
		all = append(all, fmt.Sprintf("%s, which %s is about to give up", ref, by))
	}
	slices.Sort(all)
	return "it waits for " + strings.Join(all, ", and for ")
}
