package reconcile

import (
	"context"
	"crypto/sha256"
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
//
// Nothing is given up for an exchange that can't end. Who waits for an app that keeps
// what it has, or that has not been compared with what Git has now, or for one that
// waits for such an app, is refused its change as a whole.

const waitsForApp = "WaitsForApp"

// exchangeLook is how often it is looked whether an object is free that an app waits
// for. Who gives one up says so; this is for what that may miss.
const exchangeLook = 5 * time.Second

// blocked is an app that was refused objects, because others have them.
type blocked struct {
	awaits map[fleet.ObjectRef]fleet.AppName // who has it
	wants  map[fleet.ObjectRef]bool          // all that it was to have
	free   bool                              // some of it is free since

	content string // stands for all that goes into the change
	fit     fitness
}

// standing is how an app stands that can't have all of its objects yet.
type standing int

const (
	refused    standing = iota // somebody keeps what it is to have
	waitsApps                  // others give it up in their time
	handsApps                  // others do, but wait for it first
	standsFree                 // it has them
)

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
	b.content = e.contentOf(name, objects)
	if was := e.blocked[name]; was.fit == fits && was.content == b.content {
		b.fit = fits // found out anew it would be news to the others, who would look again
	}
	e.blocked[name] = b
	e.unclaim(name, b.wants)
	return first
}

// contentOf stands for what is to be sent of an app, and as what. Called with e.mu held.
func (e *Engine) contentOf(name fleet.AppName, objects []unit.Object) string {
	h := sha256.New()
	w, _ := e.wanted(name)
	h.Write(w.spec)
	for _, o := range objects {
		fmt.Fprintf(h, "\n%s %s", o.Ref, inventory.HashOf(o))
	}
	return string(h.Sum(nil))
}

// claimOrWait scopes what was rendered and claims it. Where an app can't have all of it
// yet, and will, it tells how it stands, and it is no error.
func (e *Engine) claimOrWait(v view, rendered []unit.Object) (objects []unit.Object, s standing, err error) {
	objects, err = e.parts.Cluster.Scope(rendered, v.want.app.Spec.TargetNamespace)
	if err != nil {
		return nil, refused, err
	}
	if err = e.claim(v.name, objects); err == nil {
		e.noteAsGit(v.name, false)
	}
	e.noteCompared(v)
	if err == nil {
		return objects, standsFree, nil
	}
	noted := sentHashes(v.kept.Items)
	e.sending(v.name, slices.DeleteFunc(slices.Clone(objects), func(o unit.Object) bool { // before a crash it may have been
		return noted[versionless(o.Ref)] == inventory.HashOf(o)
	}), inventory.Compare(objects, v.kept.Items).Prune)
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, is := e.blocked[v.name]; !is {
		return nil, refused, err
	}
	if s = e.standingOf(v.name); s == refused {
		return nil, refused, err
	}
	return objects, s, nil
}

// noteCompared notes what of Git an app was last compared with.
func (e *Engine) noteCompared(v view) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apps[v.name].compared = v.look()
}

// waitForApps has an app wait for what others have, and remember its render until then.
func (e *Engine) waitForApps(name fleet.AppName, within time.Duration, last *outcome) {
	e.pauseFor(name, pause{reason: waitsForApp, message: e.whyBlocked(name), within: within, look: exchangeLook}, last)
}

// waitsStill tells that an app, whose last render stands, waits for others, and has
// given up what they wait for.
func (e *Engine) waitsStill(v view) bool {
	e.mu.Lock()
	b, is := e.blocked[v.name]
	still := is && !b.free && !v.retry && e.standingOf(v.name) != refused && !e.owes(v.name)
	for ref, by := range b.awaits {
		still = still && e.owner[ref] == by
	}
	e.mu.Unlock()
	if still {
		e.waitForApps(v.name, v.want.app.Spec.Sync.WaveWithin(), nil)
	}
	return still
}

// owes tells that others wait for what an app, which waits as well, gives up
// beforehand where that is an exchange. Called with e.mu held.
func (e *Engine) owes(name fleet.AppName) bool {
	wants := e.blocked[name].wants
	for _, b := range e.blocked {
		for ref, by := range b.awaits {
			if by == name && !wants[ref] && !isLeft(e.apps[name].kept, ref) && e.readyFor(name) {
				return true
			}
		}
	}
	return false
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

// claimAsApplied gives up what an app claimed with a change that came to nothing, when
// Git wants what is applied.
func (e *Engine) claimAsApplied(kept state.App) error {
	e.mu.Lock()
	known := e.apps[kept.Name].asGit || len(e.apps[kept.Name].claimed) == 0
	e.mu.Unlock()
	if known {
		return nil
	}
	applied, err := kept.Applied()
	if err != nil {
		return err
	}
	wants := make(map[fleet.ObjectRef]bool, len(applied))
	for _, o := range applied {
		wants[versionless(o.Ref)] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unclaim(kept.Name, wants)
	return nil
}

// freed has those looked at that wait for an object. Called with e.mu held.
func (e *Engine) freed(ref fleet.ObjectRef) {
	for name, b := range e.blocked {
		if _, waits := b.awaits[ref]; waits {
			delete(b.awaits, ref)
			b.free = true
			e.blocked[name] = b
			e.now(name)
		}
	}
}

// standingOf tells how an app stands that was refused objects. Called with e.mu held.
func (e *Engine) standingOf(name fleet.AppName) standing {
	seen, back := map[fleet.AppName]bool{}, false
	var moves func(of fleet.AppName) bool
	moves = func(of fleet.AppName) bool {
		seen[of] = true
		for ref, by := range e.blocked[of].awaits {
			if e.keeps(by, ref) {
				return false
			}
			back = back || by == name
			if !seen[by] && !moves(by) {
				return false
			}
		}
		return true
	}
	switch {
	case !moves(name):
		return refused
	case back:
		return handsApps
	}
	return waitsApps
}

// keeps tells that an app does not give up an object that it has, or that this is not
// known. Called with e.mu held.
func (e *Engine) keeps(name fleet.AppName, ref fleet.ObjectRef) bool {
	a, has := e.apps[name], false
	w, wanted := e.wanted(name)
	if a != nil && isLeft(a.kept, ref) && !slices.Contains(a.claimed, ref) && !e.blocked[name].wants[ref] {
		return false
	}
	if a == nil || !wanted || e.suspends(name) {
		return true
	}
	for r := range onCluster(a.kept) {
		has = has || r == ref
	}
	b, is := e.blocked[name]
	switch {
	case has && !w.app.Spec.Sync.PruneEnabled(), a.compared != e.lookOf(w, name):
		return true
	case is:
		return b.wants[ref] || b.fit == unfit
	}
	return has && a.asGit || slices.Contains(a.claimed, ref)
}

// handOver gives up, of what leaves an app with a change that was let through, what
// others wait for. The change itself comes when the app can have what it waits for.
func (e *Engine) handOver(ctx context.Context, kept state.App, c change, d inventory.Delta) error {
	name := kept.Name
	last := &outcome{spec: string(c.spec), reads: c.reads, blocked: true}
	ready, err := e.checkRest(ctx, kept, c, d)
	if err != nil {
		return e.failedOr(name, err)
	}
	if !ready {
		e.waitForApps(name, c.waveWithin, last)
		return nil
	}
	if left := e.awaited(name, d); len(left.Prune)+len(left.Keep) > 0 {
		kept.Deletion, kept.Halfway = c.deletion, true // the account is new until all was checked for it
		waits, err := e.pruneLeft(ctx, &kept, c, left)
		e.dated(&kept, c.digest, waits)
		if err = errors.Join(err, e.save(ctx, kept)); err != nil {
			return e.failedOr(name, err)
		}
		if waits != nil {
			last.blocked, last.stopped = false, &c
			e.pauseFor(name, *waits, last)
			return nil
		}
	}
	e.waitForApps(name, c.waveWithin, last)
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.blocked[name]
	e.unclaim(name, b.wants)
	if b.free {
		e.work.Add(name)
	}
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
	if len(all) == 0 {
		return "what it waited for is free"
	}
	slices.Sort(all)
	return "it waits for " + strings.Join(all, ", and for ")
}
