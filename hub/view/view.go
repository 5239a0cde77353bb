// Package view folds what agents report, and what people assigned, into the
// state of the fleet, and answers questions about it.
//
// It does no I/O and reads no clock: facts go in, and the answer to a question
// depends on them and on the time it is asked for, and on nothing else.
package view

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// View is the fleet's state. It is not safe for concurrent use.
type View struct {
	clusters map[string]*cluster
	order    []string // the clusters' names, sorted; nil: to be made anew
	labelled index
}

// New returns the view of an empty fleet.
func New() *View { return &View{clusters: make(map[string]*cluster), labelled: make(index)} }

func (v *View) cluster(name string) *cluster {
	c := v.clusters[name]
	if c == nil {
		c = &cluster{apps: make(map[fleet.AppName]*kept), labels: map[string]string{}}
		v.clusters[name], v.order = c, nil
	}
	return c
}

// Enrolled notes that a cluster is part of the fleet.
func (v *View) Enrolled(name string) { v.cluster(name) }

// Removed forgets a cluster and its apps.
func (v *View) Removed(name string) {
	if c := v.clusters[name]; c != nil {
		v.labelled.move(name, c.labels, nil)
	}
	delete(v.clusters, name)
	v.order = nil
}

// Heard notes a cluster's own report, and when it came.
func (v *View) Heard(name string, r fleet.ClusterReport, at time.Time) {
	r.Message, r.UID = plain(r.Message), plain(r.UID)
	r.AgentVersion, r.KubernetesVersion = plain(r.AgentVersion), plain(r.KubernetesVersion)
	r.Head = plain(r.Head)
	r.Sources = slices.Clone(r.Sources[:min(len(r.Sources), fleet.MaxSources)])
	for i, s := range r.Sources {
		r.Sources[i] = readableSource(s)
	}
	c := v.cluster(name)
	same := maps.Equal(r.Declared, c.report.Declared) && slices.Equal(r.Assignable, c.report.Assignable)
	c.report, c.seen = r, at
	if !same {
		v.relabel(name, c)
	}
}

// Lost notes that the last connection of a cluster's agent ended. It only makes
// silence show sooner: what is heard later counts more.
func (v *View) Lost(name string, at time.Time) {
	if c := v.clusters[name]; c != nil {
		c.lost = at
	}
}

// Assigned notes the labels people assigned at the hub. The map must not change
// any more.
func (v *View) Assigned(name string, set map[string]string) {
	c := v.cluster(name)
	c.assigned = set
	v.relabel(name, c)
}

func (v *View) relabel(name string, c *cluster) {
	now := c.effective()
	v.labelled.move(name, c.labels, now)
	c.labels = now
}

// Origins notes who set a cluster's labels, and when. The map must not change any
// more.
func (v *View) Origins(name string, of map[string]fleet.LabelOrigin) {
	v.cluster(name).origins = of
}

// Ordered notes in which ways people want apps held. The list must not change any
// more.
func (v *View) Ordered(name string, orders []fleet.HoldOrder) {
	c := v.cluster(name)
	c.orders = nil
	for _, o := range orders {
		if c.orders == nil {
			c.orders = map[fleet.AppName][]fleet.HoldOrder{}
		}
		c.orders[o.App] = append(c.orders[o.App], o)
	}
}

// Reported notes how one app is.
func (v *View) Reported(name string, s fleet.AppStatus) {
	c, app, now := v.cluster(name), s.Name(), keep(readable(s))
	if old := c.apps[app]; old != nil {
		count(&c.counts, old, -1)
	} else {
		app = fleet.AppName{Namespace: intern(app.Namespace), Name: intern(app.Name)}
		c.order = nil
	}
	count(&c.counts, now, 1)
	c.apps[app] = now
}

// Gone forgets one app.
func (v *View) Gone(name string, app fleet.AppName) {
	c := v.clusters[name]
	if c == nil {
		return
	}
	if old := c.apps[app]; old != nil {
		count(&c.counts, old, -1)
		delete(c.apps, app)
		c.order = nil
	}
}

// Report returns what a cluster last said of itself.
func (v *View) Report(name string) (fleet.ClusterReport, bool) {
	c := v.clusters[name]
	if c == nil {
		return fleet.ClusterReport{}, false
	}
	return c.report, true
}

// Cluster returns one cluster as it is at now.
func (v *View) Cluster(name string, now time.Time) (fleet.Cluster, bool) {
	c := v.clusters[name]
	if c == nil {
		return fleet.Cluster{}, false
	}
	return c.at(name, now), true
}

// Clusters lists the clusters that match, by name. The error is ErrInvalid.
func (v *View) Clusters(f fleet.ClusterFilter, now time.Time) ([]fleet.Cluster, error) {
	match, err := selector(f.Selector)
	if err != nil {
		return nil, err
	}
	out := []fleet.Cluster{}
	for _, name := range v.among(f.Names, match) {
		if c := v.clusters[name]; match.Matches(labels.Set(c.labels)) {
			out = append(out, c.at(name, now))
		}
	}
	return out, nil
}

// Apps lists apps by cluster, namespace and name. The error is ErrInvalid.
func (v *View) Apps(f fleet.AppFilter, now time.Time) ([]fleet.AppStatus, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	match, err := selector(f.Selector)
	if err != nil {
		return nil, err
	}
	out := []fleet.AppStatus{}
	for _, name := range v.among(f.Clusters, match) {
		c := v.clusters[name]
		if !match.Matches(labels.Set(c.labels)) {
			continue
		}
		stale := c.stale(now)
		for _, app := range c.names() {
			if f.Namespace != "" && f.Namespace != app.Namespace || f.Name != "" && f.Name != app.Name {
				continue
			}
			s := aged(c.apps[app].status(name, app), stale)
			if orders := c.orders[app]; len(orders) > 0 {
				s.Holds = fleet.WithOrders(s.Holds, orders)
			}
			if f.Matches(s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// Size is how many clusters there are.
func (v *View) Size() int { return len(v.clusters) }

// Stale names the clusters that are stale at now, in order.
func (v *View) Stale(now time.Time) []string {
	var out []string
	for name, c := range v.clusters {
		if c.stale(now) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// among are the clusters that may match, in order: of want, or where that is
// empty of all.
func (v *View) among(want []string, match labels.Selector) []string {
	if len(want) == 0 {
		if few, ok := v.labelled.candidates(match); ok {
			return few
		}
	}
	return v.names(want)
}

// names are the known ones among want, or all, in order.
func (v *View) names(want []string) []string {
	if len(want) == 0 {
		if v.order == nil {
			v.order = slices.Sorted(maps.Keys(v.clusters))
		}
		return v.order
	}
	var out []string
	for _, name := range want {
		if v.clusters[name] != nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func selector(s string) (labels.Selector, error) {
	sel, err := labels.Parse(s)
	if err != nil {
		return nil, fleet.WithHint(fleet.Invalid("selector %q: %w", s, err),
			"write it as kubectl's: env=prod,tier!=edge or 'env in (dev,staging)'")
	}
	return sel, nil
}
