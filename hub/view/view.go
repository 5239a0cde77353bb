// Package view folds what agents report, and what people assigned, into the
// state of the fleet, and answers questions about it.
//
// It does no I/O and reads no clock: facts go in, and the answer to a question
// depends on them and on the time it is asked for, and on nothing else.
package view

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unique"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// missedBeats is how many heartbeats may fail to come before a cluster's
// reports are too old to be believed.
const missedBeats = 3

// lostGrace is how long an agent may take to connect again before its silence
// counts: it tries at once, and a hub that drains lets go of all of them.
const lostGrace = 5 * time.Second

// defaultInterval stands in for an agent that has not said its own yet.
const defaultInterval = 10 * time.Second

// View is the fleet's state. It is not safe for concurrent use.
type View struct {
	clusters map[string]*cluster
	order    []string // the clusters' names, sorted; nil: to be made anew
	labelled index
}

// cluster keeps, beside what it was told, what every question needs of it: a
// question looks at all clusters.
type cluster struct {
	report   fleet.ClusterReport
	seen     time.Time
	lost     time.Time // its agent's last connection ended; of no account once it was seen later
	assigned map[string]string
	origins  map[string]fleet.LabelOrigin
	orders   map[fleet.AppName][]fleet.HoldOrder // nil: none
	labels   map[string]string                   // effective
	apps     map[fleet.AppName]*kept
	order    []fleet.AppName // the apps' names, sorted; nil: to be made anew
	counts   fleet.AppCounts // while the cluster is not stale
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

// names are the cluster's apps in order.
func (c *cluster) names() []fleet.AppName {
	if c.order == nil {
		c.order = slices.SortedFunc(maps.Keys(c.apps), fleet.AppName.Compare)
	}
	return c.order
}

func (c *cluster) at(name string, now time.Time) fleet.Cluster {
	stale := c.stale(now)
	out := fleet.Cluster{
		Cluster:           name,
		Labels:            maps.Clone(c.labels),
		Declared:          maps.Clone(c.report.Declared),
		Assigned:          maps.Clone(c.assigned),
		Origins:           maps.Clone(c.origins),
		LastSeen:          c.seen,
		Stale:             stale,
		AgentVersion:      c.report.AgentVersion,
		KubernetesVersion: c.report.KubernetesVersion,
		Head:              c.report.Head,
		Message:           c.report.Message,
		Sources:           slices.Clone(c.report.Sources),
		AgentKey:          c.report.AgentKey,
		UID:               c.report.UID,
	}
	if c.down() {
		lost := c.lost
		out.LinkDown = &lost
	}
	out.Apps = c.counts
	if stale { // nothing else is known of them
		out.Apps = fleet.AppCounts{Total: c.counts.Total}
	}
	return out
}

// count adds an app to the sums, or with -1 takes it out.
func count(n *fleet.AppCounts, k *kept, by int) {
	n.Total += by
	switch k.sync.Value() {
	case fleet.Synced:
		n.Synced += by
	case fleet.Pending:
		n.Pending += by
	}
	if k.health.Value() == fleet.Degraded {
		n.Degraded += by
	}
}

// effective is what selects at the spoke: assigned labels whose key the spoke
// lets the hub assign, under the ones it declared itself.
func (c *cluster) effective() map[string]string {
	out := make(map[string]string, len(c.assigned)+len(c.report.Declared))
	for k, val := range c.assigned {
		if slices.Contains(c.report.Assignable, k) {
			out[k] = val
		}
	}
	maps.Copy(out, c.report.Declared)
	return out
}

// stale: never heard of counts as well. A report from the future is as old as
// now, which only ever makes a cluster stale too late by the clock's step.
func (c *cluster) stale(now time.Time) bool {
	every := c.report.Interval
	if every <= 0 {
		every = defaultInterval
	}
	return now.Sub(c.seen) > missedBeats*every || c.down() && now.Sub(c.lost) > lostGrace
}

// down tells whether nothing was heard since the agent's last connection ended.
func (c *cluster) down() bool { return c.lost.After(c.seen) }

// aged is the status as it may be believed: of a silent cluster nothing is
// known but what it last said.
func aged(s fleet.AppStatus, stale bool) fleet.AppStatus {
	if stale {
		s.Stale, s.Sync, s.Health = true, fleet.SyncUnknown, fleet.HealthUnknown
	}
	return s
}

func selector(s string) (labels.Selector, error) {
	sel, err := labels.Parse(s)
	if err != nil {
		return nil, fleet.WithHint(fleet.Invalid("selector %q: %w", s, err),
			"write it as kubectl's: env=prod,tier!=edge or 'env in (dev,staging)'")
	}
	return sel, nil
}

// readable takes out of a status what could drive a terminal: an agent's text
// ends up in one.
func readable(s fleet.AppStatus) fleet.AppStatus {
	s.Message, s.Hint, s.Reason, s.Path = plain(s.Message), plain(s.Hint), plain(s.Reason), plain(s.Path)
	s.Revision, s.Digest = plain(s.Revision), plain(s.Digest)
	if s.Source != nil {
		s.Source = new(readableSource(*s.Source))
	}
	if s.Pending != nil {
		p := *s.Pending
		p.Revision, p.Digest, p.Gate, p.Plan, p.Action = plain(p.Revision), plain(p.Digest), plain(p.Gate), plain(p.Plan), plain(p.Action)
		s.Pending = &p
	}
	s.Holds = slices.Clone(s.Holds)
	for i, h := range s.Holds {
		h.Kind, h.By, h.Why, h.Refused = plain(h.Kind), plain(h.By), plain(h.Why), plain(h.Refused)
		h.Revision, h.Digest, h.Asked, h.Ending = plain(h.Revision), plain(h.Digest), false, false
		s.Holds[i] = h
	}
	s.Images = slices.Clone(s.Images)
	for i, image := range s.Images {
		s.Images[i] = plain(image)
	}
	s.Drift = slices.Clone(s.Drift)
	for i, d := range s.Drift {
		o := d.Object
		o.Group, o.Version, o.Kind, o.Namespace, o.Name = plain(o.Group), plain(o.Version), plain(o.Kind), plain(o.Namespace), plain(o.Name)
		d.Object, d.Manager, d.Fields = o, plain(d.Manager), slices.Clone(d.Fields)
		for j, f := range d.Fields {
			d.Fields[j] = plain(f)
		}
		s.Drift[i] = d
	}
	return s
}

// intern keeps one copy of what ten thousand clusters say alike.
func intern[T ~string](s T) T { return unique.Make(s).Value() }

func readableSource(s fleet.SourceStatus) fleet.SourceStatus {
	s.URL, s.Follows, s.Head = intern(plain(s.URL)), intern(plain(s.Follows)), intern(plain(s.Head))
	s.ServedBy, s.Message = intern(plain(s.ServedBy)), plain(s.Message)
	return s
}

func plain[T ~string](s T) T {
	if ordinary(string(s)) {
		return s
	}
	return T(strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return -1
		}
		return r
	}, string(s)))
}

// ordinary tells whether there is nothing in a text to take out, as is so of
// almost all: to look at every rune costs more than the rest of a report.
func ordinary(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\n' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}
