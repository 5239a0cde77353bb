// Package metrics counts what the hub does, and shows it to Prometheus.
//
// No metric has a cluster's or an app's name among its labels: a fleet of ten
// thousand clusters makes no more series than one of ten.
package metrics

import (
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Metrics are the hub's.
type Metrics struct {
	registry *prometheus.Registry

	messages      *prometheus.CounterVec
	intents       *prometheus.CounterVec
	hooks         *prometheus.CounterVec
	notifications *prometheus.CounterVec
	requests      *prometheus.CounterVec
	durations     *prometheus.HistogramVec
}

// The outcomes of what is counted: how fleet's kinds of errors are called.
const (
	ok     = "ok"
	failed = "failed" // none of fleet's kinds
)

var outcomes = []struct {
	kind error
	name string
}{
	{fleet.ErrInvalid, "invalid"},
	{fleet.ErrForbidden, "forbidden"},
	{fleet.ErrNotFound, "not-found"},
	{fleet.ErrConflict, "conflict"},
	{fleet.ErrUnavailable, "unavailable"},
}

func outcome(err error) string {
	if err == nil {
		return ok
	}
	for _, o := range outcomes {
		if errors.Is(err, o.kind) {
			return o.name
		}
	}
	return failed
}

// New makes the metrics of a hub of that version.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	m.messages = counter("capstan_agent_messages_total",
		"Messages from agents by what they are, and how they were answered; all but ok were refused, and dropped had no answer.", "message", "outcome")
	m.intents = counter("capstan_intents_sent_total", "Intents handed to the link for an agent at once; one that fails is fetched by the agent later.", "outcome")
	m.hooks = counter("capstan_webhooks_total", "Calls of forges after a push, by forge and what became of them.", "provider", "outcome")
	m.notifications = counter("capstan_notifications_total", "Notifications by route and kind of target; one that failed is tried again.", "route", "kind", "outcome")
	m.requests = counter("capstan_http_requests_total", "Requests over HTTP by route and status.", "route", "code")
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "capstan_http_request_duration_seconds", Help: "How long requests over HTTP took, by route; streams are left out.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route"})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "capstan_build_info", Help: "1, with the hub's version."}, []string{"version", "go_version"})
	m.registry.MustRegister(m.durations, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info.WithLabelValues(version, runtime.Version()).Set(1)
	// What has not happened yet is 0, not absent: rates and alerts see the first time.
	for _, o := range []string{ok, failed, dropped, "invalid", "forbidden", "conflict", "unavailable"} {
		m.messages.WithLabelValues("status", o)
	}
	m.intents.WithLabelValues(ok)
	m.intents.WithLabelValues("unavailable")
	return m
}

// Handler shows the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
}

const dropped = "dropped"

// AgentMessage counts a message from an agent: what it is, one of few words,
// and how it was answered.
func (m *Metrics) AgentMessage(what string, err error) {
	m.messages.WithLabelValues(what, outcome(err)).Inc()
}

// AgentMessageDropped counts one that was not answered.
func (m *Metrics) AgentMessageDropped(what string) { m.messages.WithLabelValues(what, dropped).Inc() }

// IntentSent counts an intent that was to be pushed.
func (m *Metrics) IntentSent(err error) { m.intents.WithLabelValues(outcome(err)).Inc() }

// Webhook counts a forge's call.
func (m *Metrics) Webhook(provider, outcome string) {
	m.hooks.WithLabelValues(provider, outcome).Inc()
}

// Route makes a route of notifications known, though nothing was sent yet.
func (m *Metrics) Route(name, kind string) {
	m.notifications.WithLabelValues(name, kind, ok)
	m.notifications.WithLabelValues(name, kind, failed)
}

// Notified counts a notification.
func (m *Metrics) Notified(route, kind string, err error) {
	o := ok
	if err != nil {
		o = failed
	}
	m.notifications.WithLabelValues(route, kind, o).Inc()
}

// HTTP counts the requests that next answers, by the pattern they matched.
func (m *Metrics) HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := time.Now()
		seen := &watched{ResponseWriter: w}
		defer func() {
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			code := seen.code
			if code == 0 {
				code = http.StatusOK
			}
			m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
			if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
				m.durations.WithLabelValues(route).Observe(time.Since(from).Seconds())
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

// watched notes the status of an answer.
type watched struct {
	http.ResponseWriter
	code int
}

func (w *watched) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }
