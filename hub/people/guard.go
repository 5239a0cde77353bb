package people

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/hub/access"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Fleet is what a Guard stands before.
type Fleet interface {
	fleet.Hub
	// GitPushed tells every agent that somebody pushed to a repository, and to
	// which of its references where that is known.
	GitPushed(ctx context.Context, url string, refs ...string) error
}

// Guard is a fleet.Hub that does what the one who asks (fleet.Who) may, and
// shows what that one may see. What may not be seen is refused in the same way
// as what is not there, wherever somebody's sight is limited.
type Guard struct {
	people *People
	fleet  Fleet
}

var _ fleet.Hub = (*Guard)(nil)

// Guard puts the rules before a fleet.
func (p *People) Guard(f Fleet) *Guard { return &Guard{people: p, fleet: f} }

// may is nil where the one who asks may do a on a cluster, or an app there.
func (g *Guard) may(ctx context.Context, a access.Action, cluster string, app fleet.AppName) error {
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return err
	}
	if app != (fleet.AppName{}) {
		if _, err := fleet.ParseAppName(app.String()); err != nil {
			return err
		}
	}
	r, err := g.people.rights(ctx)
	if err != nil {
		return err
	}
	if r.Everywhere(a) {
		return nil
	}
	known, err := g.labels(ctx, fleet.ClusterFilter{Names: []string{cluster}})
	if err != nil {
		return err
	}
	return refusal(r.Decide(a, access.Resource{Cluster: cluster, Labels: known[cluster], App: app}))
}

// labels are those of the clusters that match; a cluster without any has an
// empty map, one that is not known none.
func (g *Guard) labels(ctx context.Context, f fleet.ClusterFilter) (map[string]map[string]string, error) {
	clusters, err := g.fleet.Clusters(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make(map[string]map[string]string, len(clusters))
	for _, c := range clusters {
		out[c.Cluster] = c.Labels
		if c.Labels == nil {
			out[c.Cluster] = map[string]string{}
		}
	}
	return out, nil
}

// seeing are the rights of one who may see something.
func (g *Guard) seeing(ctx context.Context) (access.Rights, error) {
	r, err := g.people.rights(ctx)
	if err == nil && !r.Anywhere(access.See) {
		err = refusal(r.Decide(access.See, access.Fleet))
	}
	return r, err
}

// Clusters implements fleet.Hub. Of a cluster that the one who asks sees for some
// of its apps alone, those are counted, and repositories of others are left out.
func (g *Guard) Clusters(ctx context.Context, f fleet.ClusterFilter) ([]fleet.Cluster, error) {
	r, err := g.seeing(ctx)
	if err != nil {
		return nil, err
	}
	all, err := g.fleet.Clusters(ctx, f)
	if err != nil || r.Everywhere(access.See) {
		return all, err
	}
	all = slices.DeleteFunc(all, func(c fleet.Cluster) bool { return !r.Decide(access.See, resource(c)).Allowed })
	return all, g.narrow(ctx, r, f, all)
}

// resource is a cluster as rights are asked about it.
func resource(c fleet.Cluster) access.Resource {
	labels := c.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return access.Resource{Cluster: c.Cluster, Labels: labels}
}

// narrow takes out of clusters what tells of apps that may not be seen.
func (g *Guard) narrow(ctx context.Context, r access.Rights, f fleet.ClusterFilter, clusters []fleet.Cluster) error {
	some := map[string]*fleet.Cluster{}
	for i := range clusters {
		c := &clusters[i]
		if r.Whole(access.See, resource(*c)) {
			continue
		}
		some[c.Cluster] = c
		c.Apps = fleet.AppCounts{}
		c.Sources = c.Sources[:min(1, len(c.Sources))] // the agent's own
	}
	if len(some) == 0 {
		return nil
	}
	apps, err := g.fleet.Apps(ctx, fleet.AppFilter{Selector: f.Selector, Clusters: f.Names})
	if err != nil {
		return err
	}
	for _, a := range apps {
		c := some[a.Cluster]
		if c == nil {
			continue
		}
		on := resource(*c)
		on.App = a.Name()
		if r.Decide(access.See, on).Allowed {
			c.Apps.Add(a)
		}
	}
	return nil
}

// Apps implements fleet.Hub.
func (g *Guard) Apps(ctx context.Context, f fleet.AppFilter) ([]fleet.AppStatus, error) {
	r, err := g.seeing(ctx)
	if err != nil {
		return nil, err
	}
	all, err := g.fleet.Apps(ctx, f)
	if err != nil || r.Everywhere(access.See) {
		return all, err
	}
	known, err := g.labels(ctx, fleet.ClusterFilter{Selector: f.Selector, Names: f.Clusters})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(a fleet.AppStatus) bool {
		return !r.Decide(access.See, access.Resource{Cluster: a.Cluster, Labels: known[a.Cluster], App: a.Name()}).Allowed
	}), nil
}

// LabelCluster implements fleet.Hub.
func (g *Guard) LabelCluster(ctx context.Context, cluster string, set map[string]string, remove []string) (fleet.Cluster, error) {
	if err := g.mayLabel(ctx, []string{cluster}, set, remove); err != nil {
		return fleet.Cluster{}, err
	}
	return g.fleet.LabelCluster(ctx, cluster, set, remove)
}

// LabelClusters implements fleet.Hub. Every cluster that is named has to be allowed.
func (g *Guard) LabelClusters(ctx context.Context, clusters []string, set map[string]string, remove []string) ([]string, error) {
	if err := g.mayLabel(ctx, clusters, set, remove); err != nil {
		return nil, err
	}
	return g.fleet.LabelClusters(ctx, clusters, set, remove)
}

// mayLabel lets nobody label clusters into the bounds of others: they have to be
// within their own before and after.
func (g *Guard) mayLabel(ctx context.Context, clusters []string, set map[string]string, remove []string) error {
	names, err := fleet.Together(clusters)
	if err != nil {
		return err
	}
	r, err := g.people.rights(ctx)
	if err != nil || r.Everywhere(access.Label) {
		return err
	}
	known, err := g.labels(ctx, fleet.ClusterFilter{Names: names})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := refusal(r.Decide(access.Label, access.Resource{Cluster: name, Labels: known[name]})); err != nil {
			return err
		}
		after := fleet.Intent{Labels: set, Removed: remove}.Merge(known[name])
		if err := refusal(r.Decide(access.Label, access.Resource{Cluster: name, Labels: after})); err != nil {
			return fleet.WithHint(fleet.Forbidden("with these labels %s would be none of yours: %w", name, err), fleet.Hint(err))
		}
	}
	return nil
}

// Join implements fleet.Hub.
func (g *Guard) Join(ctx context.Context, cluster string, ttl time.Duration) (fleet.JoinGrant, error) {
	if err := g.may(ctx, access.Join, cluster, fleet.AppName{}); err != nil {
		return fleet.JoinGrant{}, err
	}
	return g.fleet.Join(ctx, cluster, ttl)
}

// RemoveCluster implements fleet.Hub.
func (g *Guard) RemoveCluster(ctx context.Context, cluster string) error {
	if err := g.may(ctx, access.Remove, cluster, fleet.AppName{}); err != nil {
		return err
	}
	return g.fleet.RemoveCluster(ctx, cluster)
}

// Plan implements fleet.Hub.
func (g *Guard) Plan(ctx context.Context, cluster string, app fleet.AppName) (fleet.SignedPlan, error) {
	if err := g.may(ctx, access.See, cluster, app); err != nil {
		return fleet.SignedPlan{}, err
	}
	return g.fleet.Plan(ctx, cluster, app)
}

// History implements fleet.Hub.
func (g *Guard) History(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.HistoryEntry, error) {
	if err := g.may(ctx, access.See, cluster, app); err != nil {
		return nil, err
	}
	return g.fleet.History(ctx, cluster, app)
}

// Tree implements fleet.Hub.
func (g *Guard) Tree(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.Object, error) {
	if err := g.may(ctx, access.See, cluster, app); err != nil {
		return nil, err
	}
	return g.fleet.Tree(ctx, cluster, app)
}

// Approve implements fleet.Hub. Every cluster that is named has to be allowed.
func (g *Guard) Approve(ctx context.Context, a fleet.SignedApproval) error {
	r, err := g.people.rights(ctx)
	if err != nil {
		return err
	}
	if !r.Anywhere(access.Approve) {
		return refusal(r.Decide(access.Approve, access.Fleet))
	}
	if r.Everywhere(access.Approve) {
		return g.fleet.Approve(ctx, a)
	}
	var statement fleet.Approval
	if err := json.Unmarshal(a.Statement, &statement); err != nil {
		return fleet.Invalid("approval: not a JSON statement")
	}
	app, err := fleet.ParseAppName(statement.App)
	if err != nil {
		return err
	}
	if len(statement.Targets) == 0 {
		return fleet.Invalid("approval: names no cluster")
	}
	for _, t := range statement.Targets {
		if err := g.may(ctx, access.Approve, t.Cluster, app); err != nil {
			return err
		}
	}
	return g.fleet.Approve(ctx, a)
}

// Reject implements fleet.Hub.
func (g *Guard) Reject(ctx context.Context, cluster string, app fleet.AppName, plan, why string) error {
	if err := g.may(ctx, access.Approve, cluster, app); err != nil {
		return err
	}
	return g.fleet.Reject(ctx, cluster, app, plan, why)
}

// Sync implements fleet.Hub. No clusters: those that have the app, as far as
// the one who asks may.
func (g *Guard) Sync(ctx context.Context, app fleet.AppName, clusters []string) ([]string, error) {
	clusters, err := g.among(ctx, access.Sync, app, clusters)
	if err != nil {
		return nil, err
	}
	return g.fleet.Sync(ctx, app, clusters)
}

// Events implements fleet.Hub.
func (g *Guard) Events(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	return g.events(ctx, f, g.fleet.Events)
}

// Changes implements fleet.Hub.
func (g *Guard) Changes(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	return g.events(ctx, f, g.fleet.Changes)
}

// events leaves out of a page what may not be seen: it can be shorter than was
// asked for, and have another after it. What concerns no cluster that is there
// is for those who see everything.
func (g *Guard) events(ctx context.Context, f fleet.EventFilter, list func(context.Context, fleet.EventFilter) (fleet.EventPage, error)) (fleet.EventPage, error) {
	r, err := g.seeing(ctx)
	if err != nil {
		return fleet.EventPage{}, err
	}
	page, err := list(ctx, f)
	if err != nil || r.Everywhere(access.See) {
		return page, err
	}
	known, err := g.labels(ctx, fleet.ClusterFilter{Names: f.Clusters})
	if err != nil {
		return fleet.EventPage{}, err
	}
	page.Items = slices.DeleteFunc(page.Items, func(e fleet.Event) bool {
		on := access.Resource{Cluster: e.Cluster, Labels: known[e.Cluster]}
		if e.App != "" {
			app, err := fleet.ParseAppName(e.App)
			if err != nil {
				return true
			}
			on.App = app
		}
		return !r.Decide(access.See, on).Allowed
	})
	return page, nil
}

// Watch implements fleet.Hub. A notice says that something changed, not what.
// ErrTooOften: the one who asks has too many streams open.
func (g *Guard) Watch(ctx context.Context, since string) (<-chan string, error) {
	if _, err := g.seeing(ctx); err != nil {
		return nil, err
	}
	if err := g.people.open.open(ctx, fleet.Who(ctx)); err != nil {
		return nil, err
	}
	return g.fleet.Watch(ctx, since)
}

// GitPushed tells every agent that somebody pushed to a repository, and to which
// of its references where that is known.
func (g *Guard) GitPushed(ctx context.Context, url string, refs ...string) error {
	if err := g.people.allow(ctx, access.Push, access.Fleet); err != nil {
		return err
	}
	return g.fleet.GitPushed(ctx, url, refs...)
}
