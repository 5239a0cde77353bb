package agent

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/capstan-gitops/capstan/agent/metrics"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/tracing"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// fetch is the phase in which a repository is looked at: the one that is no app's.
const fetch = "fetch"

func newMetrics(version string) *metrics.Metrics {
	phases := []string{fetch}
	for _, p := range reconcile.Phases {
		phases = append(phases, string(p))
	}
	return metrics.New(version, phases)
}

// meter tells the metrics, and the traces where there are any, what the engine
// and the sources do.
type meter struct {
	counts *metrics.Metrics
	traces *tracing.Tracer // nil: there are none
}

var _ reconcile.Meter = meter{}

func (m meter) Begin(ctx context.Context, s reconcile.Step) (context.Context, func(error)) {
	began := time.Now()
	ctx, traced := m.trace(ctx, s)
	return ctx, func(err error) {
		m.counts.Phase(string(s.Phase), time.Since(began), err)
		traced(err)
	}
}

func (m meter) trace(ctx context.Context, s reconcile.Step) (context.Context, func(error)) {
	step := tracing.Step{Name: string(s.Phase), App: s.App, Revision: s.Revision, Digest: s.Digest, Path: s.Path, Objects: s.Objects}
	switch {
	case m.traces == nil:
		return ctx, func(error) {}
	case s.Phase == reconcile.PhaseReconcile:
		return m.traces.Look(ctx, s.App)
	case s.Phase == reconcile.PhaseStatus:
		return m.traces.Afterwards(ctx, step)
	}
	return m.traces.Step(ctx, step)
}

func (m meter) Drifted(fleet.AppName) { m.counts.DriftFound() }
func (m meter) Healed(fleet.AppName)  { m.counts.DriftHealed() }

func (m meter) fetched(f source.Fetched) {
	m.counts.Phase(fetch, f.Took, f.Err)
	if m.traces != nil && (f.New || f.Err != nil) {
		m.traces.Fetched(tracing.Fetch{
			Repository: f.URL, Follows: f.Follows, Revision: f.Revision, Began: f.Began, Took: f.Took, Failed: f.Err != nil,
		})
	}
}

// openTraces makes the traces that the configuration or the environment asks for:
// nil where neither does. The returned function sends what waits, and ends them.
func openTraces(ctx context.Context, cfg Config, version string, log *slog.Logger) (*tracing.Tracer, func(), error) {
	if !cfg.Tracing.On(os.LookupEnv) {
		return nil, func() {}, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	t, err := tracing.New(ctx, cfg.Tracing, tracing.About{Cluster: cfg.Cluster.Name, Version: version, Instance: host}, log)
	if err != nil {
		return nil, nil, err
	}
	return t, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := t.Close(ctx); err != nil {
			log.Warn("the last traces were not sent", "error", err)
		}
	}, nil
}

// measured are what the metrics show at each scrape.
func measured(e *reconcile.Engine, p *source.Pool) metrics.Sources {
	return metrics.Sources{
		Apps: func() []metrics.App {
			all := e.Measure()
			out := make([]metrics.App, 0, len(all))
			for _, a := range all {
				m := metrics.App{Name: a.Name(), Sync: a.Sync, Health: a.Health, Objects: a.Objects, Drifted: len(a.Drift), Synced: a.Applied}
				if a.Pending != nil {
					m.Pending = a.Pending.Since
				}
				out = append(out, m)
			}
			return out
		},
		Repositories: func() []metrics.Repository {
			all := p.Reached()
			out := make([]metrics.Repository, 0, len(all))
			for _, r := range all {
				out = append(out, metrics.Repository{URL: r.URL, Follows: r.Follows, Reached: r.At})
			}
			return out
		},
		Queue: func() metrics.Queue {
			apps, statuses, busy := e.Backlog()
			return metrics.Queue{Apps: apps, Statuses: statuses, Busy: busy}
		},
	}
}
