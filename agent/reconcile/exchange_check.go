package reconcile

import (
	"context"
	"slices"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What an app gives up beforehand is gone, should the API server refuse the rest of its
// change. So that is checked first, of all whose objects change hands at once: while
// one of them is refused, all keep what they have.

// fitness is what the API server said of the rest of an app's change, before anything
// is given up for it.
type fitness int

const (
	unchecked fitness = iota
	fits
	unfit
)

// checkRest has the API server check what of a change does not hang on what others
// have, and tells whether its part may be given up: that is so when the changes of all
// with whom it is exchanged were checked as well, or wait for somebody's leave.
func (e *Engine) checkRest(ctx context.Context, kept state.App, c change, d inventory.Delta) (ready bool, err error) {
	e.mu.Lock()
	known := e.apps[kept.Name].fitFor == c.digest
	rest := hangingOnNone(without(d.Apply, d.Recreate), e.blocked[kept.Name].awaits)
	e.mu.Unlock()
	if !known && len(rest) > 0 {
		err = e.parts.Cluster.As(kept.Name, c.account).Check(ctx, kept.Name, rest)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	b, is := e.blocked[kept.Name]
	was := b.fit
	if b.fit = fits; err != nil {
		b.fit = unfit
	} else {
		e.apps[kept.Name].fitFor = c.digest
	}
	if is {
		e.blocked[kept.Name] = b
	}
	for name, other := range e.blocked {
		for _, by := range other.awaits {
			if by == kept.Name && was != b.fit {
				e.now(name)
			}
		}
	}
	return e.readyFor(kept.Name), err
}

// readyFor tells that an app still exchanges objects, and that all with whom it does are
// fit for their change, or stand at a gate. Called with e.mu held.
func (e *Engine) readyFor(name fleet.AppName) bool {
	if e.standingOf(name) != handsApps { // somebody may have been refused meanwhile
		return false
	}
	seen := map[fleet.AppName]bool{name: true}
	todo := []fleet.AppName{name}
	for len(todo) > 0 {
		b := e.blocked[todo[0]]
		todo = todo[1:]
		for _, by := range b.awaits {
			other, is := e.blocked[by]
			if !is || seen[by] || e.standingOf(by) != handsApps {
				continue
			}
			if other.fit != fits && e.apps[by].waiting == "" {
				return false
			}
			seen[by] = true
			todo = append(todo, by)
		}
	}
	return true
}

// hangingOnNone leaves out what others have, and what could only be checked with it: what
// is in a Namespace of theirs, and what binds somebody to a role.
func hangingOnNone(objects []unit.Object, awaits map[fleet.ObjectRef]fleet.AppName) []unit.Object {
	namespaces, roles := map[string]bool{}, false
	for ref := range awaits {
		namespaces[ref.Name] = namespaces[ref.Name] || ref.Group == "" && ref.Kind == "Namespace"
		roles = roles || ref.Group == rbac
	}
	return slices.DeleteFunc(slices.Clone(objects), func(o unit.Object) bool {
		_, theirs := awaits[versionless(o.Ref)]
		return theirs || namespaces[o.Ref.Namespace] || roles && o.Ref.Group == rbac
	})
}

const rbac = "rbac.authorization.k8s.io"
