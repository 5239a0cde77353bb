package fleettest

import (
	"context"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Suspend implements fleet.Hub. What is held is in the app's status at once.
func (h *Hub) Suspend(ctx context.Context, app fleet.AppName, clusters []string, why string) ([]string, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	o := fleet.HoldOrder{App: app, Hold: fleet.Hold{Kind: fleet.HoldSuspend, By: fleet.Actor(ctx), At: time.Now().UTC(), Why: why}}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	on, err := h.having(app, clusters)
	if err != nil {
		return nil, err
	}
	for _, c := range on {
		h.hold(c, app, o.Hold)
	}
	h.changed(ctx, "suspend", app.String(), on...)
	h.did(ctx, "Suspend", "%s %v %q", app, on, why)
	return on, nil
}

// Rollback implements fleet.Hub.
func (h *Hub) Rollback(ctx context.Context, cluster string, app fleet.AppName, to fleet.RollbackTo) (fleet.Hold, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return fleet.Hold{}, err
	}
	if err := h.has(cluster, app); err != nil {
		return fleet.Hold{}, err
	}
	then, err := to.In(h.seed.History[Key{cluster, app}])
	if err != nil {
		return fleet.Hold{}, err
	}
	hold := fleet.Hold{
		Kind: fleet.HoldRollback, By: fleet.Actor(ctx), At: time.Now().UTC(), Why: to.Why, Revision: then.Revision, Digest: then.Digest,
	}
	h.hold(cluster, app, hold)
	if s := h.app(cluster, app); s.Pending == nil { // where nothing waits it goes back at once
		s.Revision, s.Digest = then.Revision, then.Digest
	}
	h.changed(ctx, "rollback", app.String(), cluster)
	h.did(ctx, "Rollback", "%s %s %s %q", cluster, app, then.Revision, to.Why)
	return hold, nil
}

// Resume implements fleet.Hub.
func (h *Hub) Resume(ctx context.Context, app fleet.AppName, clusters []string, only fleet.HoldKind) ([]string, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if only != "" && only != fleet.HoldSuspend && only != fleet.HoldRollback {
		return nil, fleet.Invalid("%q is no kind of hold", only)
	}
	on, err := h.having(app, clusters)
	if err != nil {
		return nil, err
	}
	var asked []string
	for _, c := range on {
		s := h.app(c, app)
		rest := slices.DeleteFunc(slices.Clone(s.Holds), func(o fleet.Hold) bool { return only == "" || o.Kind == only })
		if len(rest) < len(s.Holds) {
			asked = append(asked, c)
		}
		s.Holds = rest
	}
	if len(asked) == 0 {
		return nil, fleet.Conflict("app %s is not held", app)
	}
	h.changed(ctx, "resume", app.String(), asked...)
	h.did(ctx, "Resume", "%s %v %s", app, asked, only)
	return asked, nil
}

// hold puts a hold into the place of an earlier one.
func (h *Hub) hold(cluster string, app fleet.AppName, hold fleet.Hold) {
	s := h.app(cluster, app)
	s.Holds = append(slices.DeleteFunc(slices.Clone(s.Holds), func(o fleet.Hold) bool { return o.Kind == hold.Kind }), hold)
}

// having are the clusters that have an app: those named, each of which has to, or all.
func (h *Hub) having(app fleet.AppName, clusters []string) ([]string, error) {
	if _, err := fleet.ParseAppName(app.String()); err != nil {
		return nil, err
	}
	var on []string
	for _, s := range h.seed.Apps {
		if s.Name() == app && (len(clusters) == 0 || slices.Contains(clusters, s.Cluster)) {
			on = append(on, s.Cluster)
		}
	}
	for _, c := range clusters {
		if !slices.Contains(on, c) {
			return nil, fleet.NotFound("app %s is not on cluster %q", app, c)
		}
	}
	if len(on) == 0 {
		return nil, fleet.NotFound("no cluster has app %s", app)
	}
	slices.Sort(on)
	return on, nil
}
