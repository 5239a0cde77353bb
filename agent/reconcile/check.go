package reconcile

import (
	"context"
	"slices"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// checkFirst has the API server check a change of several objects before the
// first of them is sent, so that an invalid one does not leave what runs half
// changed. The object it returns was not checked: it is to be sent alone, before
// the others, and is taken or refused whole. On a cluster where nothing of the app
// runs yet there is nothing to half-change. If it is to be applied as somebody else
// than before, that one's right to all of it is checked.
func (e *Engine) checkFirst(ctx context.Context, kept state.App, c change, d inventory.Delta) (*unit.Object, error) {
	as := e.parts.Cluster.As(kept.Name, c.account)
	all := without(d.Apply, d.Recreate)
	switch {
	case kept.Digest == fleet.NoDigest:
		return nil, nil //nolint:nilnil // there is nothing to check
	case kept.Account != c.account:
		return nil, as.Check(ctx, kept.Name, slices.Concat(all, d.Unchanged))
	case len(all) == 0:
		return nil, nil //nolint:nilnil // there is nothing to check
	}
	var first *unit.Object
	if len(c.hooks) == 0 && len(d.Recreate) == 0 { // otherwise something happens before it
		var err error
		if first, err = goesFirst(all, d.New); err != nil {
			return nil, err
		}
	}
	rest := all
	if first != nil {
		rest = slices.DeleteFunc(slices.Clone(all), func(o unit.Object) bool { return o.Ref.Same(first.Ref) })
	}
	if len(rest) == 0 {
		return nil, nil //nolint:nilnil // nothing comes after it
	}
	return first, as.Check(ctx, kept.Name, rest)
}

// goesFirst finds, in the first wave, an object that is there already: one that is
// new may need others of its wave. Nil: there is none.
func goesFirst(objects []unit.Object, isNew []unit.Object) (*unit.Object, error) {
	waves, err := order.Waves(objects)
	if err != nil {
		return nil, err
	}
	for _, o := range waves[0].Objects {
		if !slices.ContainsFunc(isNew, func(n unit.Object) bool { return n.Ref.Same(o.Ref) }) {
			return &o, nil
		}
	}
	return nil, nil //nolint:nilnil // all are new
}

// alone sends the object that goes before all others, if it is among these, and
// gives what is left to send.
func (e *Engine) alone(ctx context.Context, kept *state.App, c change, send []unit.Object) (done, left []unit.Object, err error) {
	if c.first == nil || !slices.ContainsFunc(send, func(o unit.Object) bool { return o.Ref.Same(c.first.Ref) }) {
		return nil, send, nil
	}
	applied, err := e.acting(*kept).Apply(ctx, kept.Name, []unit.Object{*c.first})
	kept.Items = confirm(kept.Items, applied)
	for _, a := range applied {
		done = append(done, a.Object)
	}
	return done, slices.DeleteFunc(slices.Clone(send), func(o unit.Object) bool { return o.Ref.Same(c.first.Ref) }), err
}
