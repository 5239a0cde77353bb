package desk

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// maxHolds is how much of a cluster's intent holds may take. Approvals are to
// find room beside them.
const maxHolds = maxIntent / 4

// Suspend implements fleet.Hub.
func (d *Desk) Suspend(ctx context.Context, app fleet.AppName, clusters []string, why string) ([]string, error) {
	o := d.newOrder(ctx, app, fleet.HoldSuspend)
	if o.Why = why; o.Validate() != nil {
		return nil, o.Validate()
	}
	have, err := d.having(ctx, app, clusters)
	if err != nil {
		return nil, err
	}
	asked := clustersOf(have)
	return asked, d.changeAll(ctx, asked, entry{Action: "suspend", App: app.String(), Detail: o.Hold}, func(in *fleet.Intent) { give(in, o) })
}

// Rollback implements fleet.Hub. The cluster looks itself whether the revision
// is in the app's history.
func (d *Desk) Rollback(ctx context.Context, cluster string, app fleet.AppName, to fleet.RollbackTo) (fleet.Hold, error) {
	if err := to.Validate(); err != nil {
		return fleet.Hold{}, err
	}
	history, err := d.History(ctx, cluster, app)
	if err != nil {
		return fleet.Hold{}, err
	}
	then, err := to.In(history)
	if err != nil {
		return fleet.Hold{}, err
	}
	o := d.newOrder(ctx, app, fleet.HoldRollback)
	o.Why, o.Revision, o.Digest = to.Why, then.Revision, then.Digest
	if err := o.Validate(); err != nil {
		return fleet.Hold{}, err
	}
	e := entry{Action: "rollback", App: app.String(), Before: history[0], After: o.Hold}
	return o.Hold, d.changeAll(ctx, []string{cluster}, e, func(in *fleet.Intent) { give(in, o) })
}

// Resume implements fleet.Hub. What is held is what was ordered here, and what
// the cluster says it does: an order of another hub, for one.
func (d *Desk) Resume(ctx context.Context, app fleet.AppName, clusters []string, only fleet.HoldKind) ([]string, error) {
	if only != "" && only != fleet.HoldSuspend && only != fleet.HoldRollback {
		return nil, fleet.Invalid("%q is not one of %s, %s", only, fleet.HoldSuspend, fleet.HoldRollback)
	}
	have, err := d.having(ctx, app, clusters)
	if err != nil {
		return nil, err
	}
	var asked []string
	for _, status := range have {
		lifted, err := d.lift(ctx, status, only)
		if err != nil {
			return nil, err
		}
		if lifted {
			asked = append(asked, status.Cluster)
		}
	}
	if len(asked) == 0 {
		return nil, nothingHeld(app, have, only)
	}
	return asked, nil
}

// lift says of every hold on an app that it is over. It tells whether there was
// one.
func (d *Desk) lift(ctx context.Context, status fleet.AppStatus, only fleet.HoldKind) (bool, error) {
	s, err := d.find(ctx, status.Cluster)
	if err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	var before []fleet.Hold
	for _, kind := range []fleet.HoldKind{fleet.HoldSuspend, fleet.HoldRollback} {
		if h := heldOn(s.intent, status, kind); h != nil && (only == "" || only == kind) {
			before = append(before, *h)
		}
	}
	if len(before) == 0 {
		return false, nil
	}
	e := entry{Action: "resume", App: status.Name().String(), Detail: before}
	return true, d.change(ctx, s, e, func(in *fleet.Intent) {
		for _, h := range before {
			o := d.newOrder(ctx, status.Name(), h.Kind)
			o.Lifted = true
			give(in, o)
		}
	})
}

// heldOn is the hold of a kind on an app; nil: there is none.
func heldOn(in fleet.Intent, status fleet.AppStatus, kind fleet.HoldKind) *fleet.Hold {
	for _, o := range in.Holds {
		switch {
		case o.App != status.Name() || o.Kind != kind:
		case o.Lifted:
			return nil // the cluster has yet to say so
		default:
			return &o.Hold
		}
	}
	for _, h := range status.Holds {
		if h.Kind == kind {
			return &h
		}
	}
	return nil
}

func nothingHeld(app fleet.AppName, have []fleet.AppStatus, only fleet.HoldKind) error {
	what := "suspended or rolled back"
	switch only {
	case fleet.HoldSuspend:
		what = "suspended"
	case fleet.HoldRollback:
		what = "rolled back"
	}
	hint := "capstan get apps --held lists what is"
	if slices.ContainsFunc(have, func(s fleet.AppStatus) bool { return s.Reason == "Suspended" }) {
		hint = "it is suspended in Git: take spec.suspend away there"
	}
	return fleet.WithHint(fleet.Conflict("%s is not %s there by way of the hub", app, what), hint)
}

func (l *ledger) newOrder(ctx context.Context, app fleet.AppName, kind fleet.HoldKind) fleet.HoldOrder {
	return fleet.HoldOrder{App: app, Hold: fleet.Hold{Kind: kind, By: actorOf(ctx), At: l.cfg.Now().UTC()}}
}

// give puts an order into an intent, in the place of an earlier one.
func give(in *fleet.Intent, o fleet.HoldOrder) {
	in.Holds = append(slices.DeleteFunc(in.Holds, o.Same), o)
}

// trimHolds forgets, from the oldest on, that holds are over, where they take
// more than they may.
func trimHolds(in *fleet.Intent) {
	for !roomForHolds(*in) {
		i := slices.IndexFunc(in.Holds, func(o fleet.HoldOrder) bool { return o.Lifted })
		if i < 0 {
			return
		}
		in.Holds = slices.Delete(in.Holds, i, i+1)
	}
}

// roomForHolds tells whether an intent's holds stay within what they may take.
func roomForHolds(in fleet.Intent) bool {
	b, err := json.Marshal(in.Holds)
	return err == nil && len(b) <= maxHolds && len(in.Holds) <= fleet.MaxOrders
}

// having are an app's statuses on the clusters that are named, each of which has
// to have it; or with none on all that have it.
func (d *Desk) having(ctx context.Context, app fleet.AppName, clusters []string) ([]fleet.AppStatus, error) {
	if _, err := fleet.ParseAppName(app.String()); err != nil {
		return nil, err
	}
	have, err := d.Apps(ctx, fleet.AppFilter{Clusters: clusters, Namespace: app.Namespace, Name: app.Name})
	if err != nil {
		return nil, err
	}
	for _, name := range clusters {
		if !slices.ContainsFunc(have, func(a fleet.AppStatus) bool { return a.Cluster == name }) {
			return nil, fleet.NotFound("cluster %s has no app %s", name, app)
		}
	}
	if len(have) == 0 {
		return nil, fleet.WithHint(fleet.NotFound("no cluster has an app %s", app), "see: capstan get apps")
	}
	return have, nil
}

func clustersOf(apps []fleet.AppStatus) []string {
	out := make([]string, len(apps))
	for i, a := range apps {
		out[i] = a.Cluster
	}
	return out
}
