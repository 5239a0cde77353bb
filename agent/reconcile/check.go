package reconcile

import (
	"context"
	"slices"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// checkFirst has the API server check a change of several objects before the
// first of them is sent, so that an invalid one does not leave what runs half
// changed. The object it returns was not checked: it is to be sent alone, before
// the others, and is taken or refused whole. On a cluster where nothing of the app
// runs yet there is nothing to half-change. If it is to be applied as somebody else
// than before, that one's right to all of it is checked. What is given other labels
// and nothing else is not checked: should a policy refuse them, what runs is as it was.
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
	check, err := withoutRelabelled(all, kept)
	if err != nil {
		return nil, err
	}
	var first *unit.Object
	if len(c.hooks) == 0 && len(d.Recreate) == 0 && len(all) > 1 { // otherwise something happens before it, or nothing after it
		if first, err = goesFirst(all, check, kept.Items); err != nil {
			return nil, err
		}
	}
	if first != nil {
		check = slices.DeleteFunc(slices.Clone(check), func(o unit.Object) bool { return o.Ref.Same(first.Ref) })
	}
	if len(all) == 1 || len(check) == 0 {
		return first, nil
	}
	return first, as.Check(ctx, kept.Name, check)
}

// withoutRelabelled leaves out what is there as it was applied last, but for labels.
func withoutRelabelled(objects []unit.Object, kept state.App) ([]unit.Object, error) {
	applied, err := kept.Applied()
	if err != nil {
		return nil, err
	}
	was := make(map[fleet.ObjectRef]unit.Object, len(applied))
	for _, o := range applied {
		was[versionless(o.Ref)] = o
	}
	there := sentHashes(kept.Items)
	return slices.DeleteFunc(slices.Clone(objects), func(o unit.Object) bool {
		before, ok := was[versionless(o.Ref)]
		return ok && there[versionless(o.Ref)] == inventory.HashOf(before) && plan.OnlyRelabelled(before, o)
	}), nil
}

// goesFirst finds, in the first wave, an object that is there already: one that is
// new may need others of its wave, and others may need a Namespace or a CRD that was
// noted before a crash and never sent. It is one of those to be checked, unless none
// is. Nil: there is none.
func goesFirst(objects, check []unit.Object, items []inventory.Item) (*unit.Object, error) {
	waves, err := order.Waves(objects)
	if err != nil {
		return nil, err
	}
	for _, o := range waves[0].Objects {
		same := func(n unit.Object) bool { return n.Ref.Same(o.Ref) }
		there := o.Ref.Namespace != "" && slices.ContainsFunc(items, func(it inventory.Item) bool { return it.UID != "" && it.Ref.Same(o.Ref) })
		if there && (len(check) == 0 || slices.ContainsFunc(check, same)) {
			return &o, nil
		}
	}
	return nil, nil //nolint:nilnil // none is
}

// alone sends the object that goes before all others, if it is among these, and
// gives what is left to send.
func (e *Engine) alone(ctx context.Context, kept *state.App, c change, send []unit.Object) (done, left []unit.Object, err error) {
	if c.first == nil || !slices.ContainsFunc(send, func(o unit.Object) bool { return o.Ref.Same(c.first.Ref) }) {
		return nil, send, nil
	}
	done, err = e.send(ctx, e.acting(*kept), kept, []unit.Object{*c.first})
	return done, slices.DeleteFunc(slices.Clone(send), func(o unit.Object) bool { return o.Ref.Same(c.first.Ref) }), err
}
