package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Fleet is what there is to count. The hub's desk is one.
type Fleet interface {
	Clusters(ctx context.Context, f fleet.ClusterFilter) ([]fleet.Cluster, error)
	Apps(ctx context.Context, f fleet.AppFilter) ([]fleet.AppStatus, error)
}

// StoreUsage is how much one bucket or log of the store takes.
type StoreUsage struct {
	Name            string
	Bytes, MaxBytes int64
	Documents       uint64
}

// Sources are read at each scrape. All are required.
type Sources struct {
	Fleet Fleet
	Store func(context.Context) ([]StoreUsage, error)
	// Connections counts those of agents to this hub's own NATS server.
	Connections func() int
}

// Watch has the metrics show what the sources say.
func (m *Metrics) Watch(s Sources) { m.registry.MustRegister(&collector{Sources: s}) }

// readWithin bounds what a scrape may cost.
const readWithin = 10 * time.Second

type collector struct{ Sources }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	clustersDesc    = describe("capstan_clusters", "Clusters of the fleet: live, or stale where the last heartbeat is too old.", "state")
	appsDesc        = describe("capstan_apps", "Apps over all clusters, by sync and health.", "sync", "health")
	driftedDesc     = describe("capstan_apps_drifted", "Apps with objects that differ from what was applied.")
	oldestDesc      = describe("capstan_oldest_pending_seconds", "How long the plan that waits longest has been waiting; 0 where none waits.")
	bytesDesc       = describe("capstan_store_bytes", "Bytes that a bucket or log takes.", "name")
	maxDesc         = describe("capstan_store_max_bytes", "Bytes that a bucket or log may take; a bucket that is full refuses what is new.", "name")
	documentsDesc   = describe("capstan_store_documents", "Documents in a bucket or log.", "name")
	connectionsDesc = describe("capstan_nats_connections", "Connections of agents to this hub's NATS server.")
	readableDesc    = describe("capstan_scrape_ok", "1 where all of a source could be read at this scrape.", "source")
)

var (
	syncs   = []fleet.Sync{fleet.Synced, fleet.OutOfSync, fleet.Pending, fleet.SyncUnknown}
	healths = []fleet.Health{fleet.Healthy, fleet.Suspended, fleet.Progressing, fleet.Missing, fleet.Degraded, fleet.HealthUnknown}
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{clustersDesc, appsDesc, driftedDesc, oldestDesc, bytesDesc, maxDesc, documentsDesc, connectionsDesc, readableDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	gauge(out, connectionsDesc, float64(c.Connections()))
	gauge(out, readableDesc, flag(c.fleet(ctx, out)), "fleet")
	gauge(out, readableDesc, flag(c.store(ctx, out)), "store")
}

func flag(err error) float64 {
	if err != nil {
		return 0
	}
	return 1
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c *collector) fleet(ctx context.Context, out chan<- prometheus.Metric) error {
	clusters, err := c.Fleet.Clusters(ctx, fleet.ClusterFilter{})
	if err != nil {
		return err
	}
	apps, err := c.Fleet.Apps(ctx, fleet.AppFilter{})
	if err != nil {
		return err
	}
	stale := 0
	for _, cl := range clusters {
		if cl.Stale {
			stale++
		}
	}
	gauge(out, clustersDesc, float64(stale), "stale")
	gauge(out, clustersDesc, float64(len(clusters)-stale), "live")
	type state struct {
		sync   fleet.Sync
		health fleet.Health
	}
	counts := map[state]int{}
	for _, s := range syncs {
		for _, h := range healths {
			counts[state{s, h}] = 0
		}
	}
	drifted, now, oldest := 0, time.Now(), time.Duration(0)
	for i := range apps {
		a := &apps[i]
		st := state{a.Sync, a.Health}
		if _, known := counts[st]; !known { // an agent's own word is no label
			st = state{fleet.SyncUnknown, fleet.HealthUnknown}
		}
		counts[st]++
		if len(a.Drift) > 0 {
			drifted++
		}
		if a.Pending != nil && !a.Pending.Since.IsZero() {
			oldest = max(oldest, now.Sub(a.Pending.Since))
		}
	}
	for st, n := range counts {
		gauge(out, appsDesc, float64(n), string(st.sync), string(st.health))
	}
	gauge(out, driftedDesc, float64(drifted))
	gauge(out, oldestDesc, oldest.Seconds())
	return nil
}

func (c *collector) store(ctx context.Context, out chan<- prometheus.Metric) error {
	all, err := c.Store(ctx)
	for _, u := range all {
		gauge(out, bytesDesc, float64(u.Bytes), u.Name)
		gauge(out, maxDesc, float64(u.MaxBytes), u.Name)
		gauge(out, documentsDesc, float64(u.Documents), u.Name)
	}
	return err
}
