// Package metrics counts what the agent does, and shows it to Prometheus.
//
// What is counted is bounded: by phases, verbs and codes, by repositories, and
// by apps where somebody has to be told which one. No object's name is a label.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the agent's.
type Metrics struct {
	registry *prometheus.Registry

	phases   *prometheus.HistogramVec
	failures *prometheus.CounterVec
	renders  *prometheus.CounterVec
	requests *prometheus.CounterVec
	answers  *prometheus.HistogramVec
	found    prometheus.Counter
	healed   prometheus.Counter
	leading  prometheus.Gauge
}

// The outcomes of a render.
const (
	ok     = "ok"
	failed = "failed"
)

// render is the phase whose outcomes are counted.
const render = "render"

// New makes the metrics of an agent of that version. phases are all that Phase
// will be told of.
func New(version string, phases []string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.phases = histogram("capstan_agent_phase_duration_seconds", "How long one phase of the work on one app, or one look at a repository, took.",
		[]float64{.001, .005, .02, .1, .5, 1, 5, 15, 60, 300}, "phase")
	m.failures = counter("capstan_agent_phase_failures_total", "Phases that ended with an error.", "phase")
	m.renders = counter("capstan_agent_renders_total", "Renders, by what became of them.", "outcome")
	m.requests = counter("capstan_agent_api_requests_total", "Requests to the API server, by verb and status; error: there was no answer.", "verb", "code")
	m.answers = histogram("capstan_agent_api_request_duration_seconds", "How long the API server took to answer, by verb; watches are left out.",
		[]float64{.002, .01, .05, .2, 1, 5, 30}, "verb")
	m.found = prometheus.NewCounter(prometheus.CounterOpts{Name: "capstan_agent_drift_found_total", Help: "Objects that were found to differ from what was applied."})
	m.healed = prometheus.NewCounter(prometheus.CounterOpts{Name: "capstan_agent_drift_healed_total", Help: "Objects that were put back to what was applied."})
	m.leading = prometheus.NewGauge(prometheus.GaugeOpts{Name: "capstan_agent_leading", Help: "1 where this agent holds the Lease and works, 0 where it waits for it."})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "capstan_agent_build_info", Help: "1, with the agent's version."}, []string{"version", "go_version"})
	m.registry.MustRegister(m.found, m.healed, m.leading, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info.WithLabelValues(version, runtime.Version()).Set(1)
	// What has not happened yet is 0, not absent: rates and alerts see the first time.
	for _, p := range phases {
		m.phases.WithLabelValues(p)
		m.failures.WithLabelValues(p)
	}
	m.renders.WithLabelValues(ok)
	m.renders.WithLabelValues(failed)
	return m
}

// Handler shows the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
}

// Leads says that this agent works.
func (m *Metrics) Leads() { m.leading.Set(1) }

// Phase counts a phase that ended: one of those that New was told of.
func (m *Metrics) Phase(phase string, took time.Duration, err error) {
	m.phases.WithLabelValues(phase).Observe(took.Seconds())
	outcome := ok
	if err != nil {
		m.failures.WithLabelValues(phase).Inc()
		outcome = failed
	}
	if phase == render {
		m.renders.WithLabelValues(outcome).Inc()
	}
}

// DriftFound counts an object that is not as it was applied.
func (m *Metrics) DriftFound() { m.found.Inc() }

// DriftHealed counts one that was put back.
func (m *Metrics) DriftHealed() { m.healed.Inc() }
