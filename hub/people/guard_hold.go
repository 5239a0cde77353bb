package people

import (
	"context"
	"fmt"

	"github.com/capstan-gitops/capstan/hub/access"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Suspend implements fleet.Hub. No clusters: as with Sync.
func (g *Guard) Suspend(ctx context.Context, app fleet.AppName, clusters []string, why string) ([]string, error) {
	clusters, err := g.among(ctx, access.Hold, app, clusters)
	if err != nil {
		return nil, err
	}
	return g.fleet.Suspend(ctx, app, clusters, why)
}

// Resume implements fleet.Hub. No clusters: those on which the app is held, as
// far as the one who asks may.
func (g *Guard) Resume(ctx context.Context, app fleet.AppName, clusters []string, only fleet.HoldKind) ([]string, error) {
	clusters, err := g.among(ctx, access.Hold, app, clusters)
	if err != nil {
		return nil, err
	}
	return g.fleet.Resume(ctx, app, clusters, only)
}

// Rollback implements fleet.Hub.
func (g *Guard) Rollback(ctx context.Context, cluster string, app fleet.AppName, to fleet.RollbackTo) (fleet.Hold, error) {
	if err := g.may(ctx, access.Hold, cluster, app); err != nil {
		return fleet.Hold{}, err
	}
	return g.fleet.Rollback(ctx, cluster, app, to)
}

// among are the clusters on which something is to be done to an app: those that
// are named, each of which has to be allowed; or, with none, all that may be. What
// it returns is empty where that is all there are.
func (g *Guard) among(ctx context.Context, a access.Action, app fleet.AppName, clusters []string) ([]string, error) {
	r, err := g.people.rights(ctx)
	if err != nil {
		return nil, err
	}
	if !r.Anywhere(a) {
		return nil, refusal(r.Decide(a, access.Fleet))
	}
	if r.Everywhere(a) {
		return clusters, nil
	}
	for _, c := range clusters {
		if err := g.may(ctx, a, c, app); err != nil {
			return nil, err
		}
	}
	if len(clusters) > 0 {
		return clusters, nil
	}
	return g.allowed(ctx, r, a, app)
}

// allowed are the clusters that have an app, and on which something may be done
// to it.
func (g *Guard) allowed(ctx context.Context, r access.Rights, a access.Action, app fleet.AppName) ([]string, error) {
	if _, err := fleet.ParseAppName(app.String()); err != nil {
		return nil, err
	}
	have, err := g.fleet.Apps(ctx, fleet.AppFilter{Namespace: app.Namespace, Name: app.Name})
	if err != nil {
		return nil, err
	}
	known, err := g.labels(ctx, fleet.ClusterFilter{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, on := range have {
		if r.Decide(a, access.Resource{Cluster: on.Cluster, Labels: known[on.Cluster], App: app}).Allowed {
			out = append(out, on.Cluster)
		}
	}
	if len(out) == 0 {
		return nil, refusal(access.Decision{Reason: fmt.Sprintf("there is no cluster on which %s may %s %s", fleet.Actor(ctx), a, app)})
	}
	return out, nil
}
