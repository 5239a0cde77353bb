package view

import (
	"maps"
	"slices"
	"time"

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
