package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// App is an app as it is counted.
type App struct {
	Name    fleet.AppName
	Sync    fleet.Sync
	Health  fleet.Health
	Objects int
	Drifted int       // objects that differ from what was applied
	Synced  time.Time // when it was last applied; zero: never
	Pending time.Time // since when a plan of it waits; zero: none does
}

// Repository is one that is followed.
type Repository struct {
	URL, Follows string
	Reached      time.Time // last
}

// Queue is the work that is known and not done.
type Queue struct {
	Apps     int // to be looked at
	Statuses int // to be written
	Busy     int // workers that are at work
}

// Sources are read at each scrape. All are required; none may block.
type Sources struct {
	Apps         func() []App
	Repositories func() []Repository
	Queue        func() Queue
}

// Watch has the metrics show what the sources say. It is called once.
func (m *Metrics) Watch(s Sources) { m.registry.MustRegister(&collector{s}) }

type collector struct{ Sources }

var all []*prometheus.Desc

func describe(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, labels, nil)
	all = append(all, d)
	return d
}

var (
	appsDesc     = describe("capstan_agent_apps", "Apps by sync and health.", "sync", "health")
	objectsDesc  = describe("capstan_agent_objects", "Objects that the apps own.")
	pendingDesc  = describe("capstan_agent_plans_pending", "Plans that wait for an approval or a confirmation.")
	oldestDesc   = describe("capstan_agent_oldest_pending_seconds", "How long the plan that waits longest has been waiting; 0 where none waits.")
	appDesc      = describe("capstan_agent_app_status", "1, with how an app is.", "namespace", "app", "sync", "health")
	syncedDesc   = describe("capstan_agent_app_last_sync_timestamp_seconds", "When a change of an app was last applied whole; absent where none was.", "namespace", "app")
	driftedDesc  = describe("capstan_agent_app_drifted_objects", "Objects of an app that differ from what was applied; absent where none does.", "namespace", "app")
	ageDesc      = describe("capstan_agent_source_age_seconds", "How long ago a repository was last reached.", "repository", "follows")
	queueDesc    = describe("capstan_agent_queue_depth", "What is to be done: apps to look at, statuses to write.", "queue")
	busyDesc     = describe("capstan_agent_workers_busy", "Workers that are at work on an app.")
	syncs        = []fleet.Sync{fleet.Synced, fleet.OutOfSync, fleet.Pending, fleet.SyncUnknown}
	healthValues = []fleet.Health{fleet.Healthy, fleet.Suspended, fleet.Progressing, fleet.Missing, fleet.Degraded, fleet.HealthUnknown}
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range all {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	q := c.Queue()
	gauge(out, queueDesc, float64(q.Apps), "apps")
	gauge(out, queueDesc, float64(q.Statuses), "statuses")
	gauge(out, busyDesc, float64(q.Busy))
	now := time.Now()
	for _, r := range c.Repositories() {
		gauge(out, ageDesc, max(0, now.Sub(r.Reached).Seconds()), r.URL, r.Follows)
	}
	c.apps(out, now)
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c *collector) apps(out chan<- prometheus.Metric, now time.Time) {
	type state struct {
		sync   fleet.Sync
		health fleet.Health
	}
	counts := map[state]int{}
	for _, s := range syncs {
		for _, h := range healthValues {
			counts[state{s, h}] = 0
		}
	}
	objects, pending, oldest := 0, 0, time.Duration(0)
	for _, a := range c.Apps() {
		counts[state{a.Sync, a.Health}]++
		objects += a.Objects
		gauge(out, appDesc, 1, a.Name.Namespace, a.Name.Name, string(a.Sync), string(a.Health))
		if !a.Synced.IsZero() {
			gauge(out, syncedDesc, float64(a.Synced.Unix()), a.Name.Namespace, a.Name.Name)
		}
		if a.Drifted > 0 {
			gauge(out, driftedDesc, float64(a.Drifted), a.Name.Namespace, a.Name.Name)
		}
		if !a.Pending.IsZero() {
			pending++
			oldest = max(oldest, now.Sub(a.Pending))
		}
	}
	for st, n := range counts {
		gauge(out, appsDesc, float64(n), string(st.sync), string(st.health))
	}
	gauge(out, objectsDesc, float64(objects))
	gauge(out, pendingDesc, float64(pending))
	gauge(out, oldestDesc, oldest.Seconds())
}
