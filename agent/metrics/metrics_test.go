package metrics_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/metrics"
	"github.com/capstan-gitops/capstan/manifests/monitoring/monitoringtest"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// scrape returns what Prometheus would read.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// busy is an agent in which everything has happened once.
func busy() *metrics.Metrics {
	began := time.Now()
	m := metrics.New("v1.2.3", []string{"fetch", "render", "apply"})
	m.Leads()
	m.Phase("fetch", 40*time.Millisecond, nil)
	m.Phase("render", 2*time.Second, nil)
	m.Phase("render", time.Second, errors.New("no such file"))
	m.DriftFound()
	m.DriftFound()
	m.DriftHealed()
	m.Watch(metrics.Sources{
		Apps: func() []metrics.App {
			return []metrics.App{
				{Name: fleet.AppName{Namespace: "shop", Name: "web"}, Sync: fleet.Synced, Health: fleet.Healthy, Objects: 3, Synced: time.Unix(1700000000, 0)},
				{Name: fleet.AppName{Namespace: "shop", Name: "db"}, Sync: fleet.Pending, Health: fleet.Degraded, Objects: 2, Drifted: 1, Pending: began.Add(-time.Hour)},
			}
		},
		Repositories: func() []metrics.Repository {
			return []metrics.Repository{{URL: "https://git.example.com/fleet.git", Follows: "branch main", Reached: began.Add(-10 * time.Minute)}}
		},
		Queue: func() metrics.Queue { return metrics.Queue{Apps: 7, Statuses: 2, Busy: 4} },
	})
	return m
}

func TestTheAgentIsMeasured(t *testing.T) {
	text := scrape(t, busy())
	has(t, text,
		`capstan_agent_leading 1`,
		`capstan_agent_phase_duration_seconds_count{phase="fetch"} 1`,
		`capstan_agent_phase_duration_seconds_bucket{phase="render",le="1"} 1`,
		`capstan_agent_phase_duration_seconds_count{phase="apply"} 0`,
		`capstan_agent_phase_failures_total{phase="render"} 1`,
		`capstan_agent_renders_total{outcome="ok"} 1`, `capstan_agent_renders_total{outcome="failed"} 1`,
		`capstan_agent_drift_found_total 2`, `capstan_agent_drift_healed_total 1`,
		`capstan_agent_apps{health="Healthy",sync="Synced"} 1`, `capstan_agent_apps{health="Degraded",sync="Pending"} 1`, `capstan_agent_apps{health="Missing",sync="Unknown"} 0`,
		`capstan_agent_app_status{app="db",health="Degraded",namespace="shop",sync="Pending"} 1`,
		`capstan_agent_app_last_sync_timestamp_seconds{app="web",namespace="shop"} 1.7e+09`,
		`capstan_agent_app_drifted_objects{app="db",namespace="shop"} 1`,
		`capstan_agent_objects 5`, `capstan_agent_plans_pending 1`,
		`capstan_agent_queue_depth{queue="apps"} 7`, `capstan_agent_queue_depth{queue="statuses"} 2`, `capstan_agent_workers_busy 4`,
	)
	for _, want := range []string{
		`capstan_agent_build_info{go_version="go`, `version="v1.2.3"} 1`, "process_resident_memory_bytes", "go_goroutines",
		`capstan_agent_source_age_seconds{follows="branch main",repository="https://git.example.com/fleet.git"} 60`, // 600 s and some
		`capstan_agent_oldest_pending_seconds 36`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, not := range []string{
		`capstan_agent_app_drifted_objects{app="web"`, `capstan_agent_app_last_sync_timestamp_seconds{app="db"`,
	} {
		if strings.Contains(text, not) {
			t.Errorf("%s is said of an app of which there is nothing to say", not)
		}
	}
}

// A thousand apps make three series each at most, and nothing else grows.
func TestSeriesAreBoundedByApps(t *testing.T) {
	m := metrics.New("v1", nil)
	var apps []metrics.App
	for i := range 1000 {
		name := fleet.AppName{Namespace: "n", Name: strings.Repeat("a", i%40+1) + string(rune('a'+i/40))}
		apps = append(apps, metrics.App{Name: name, Sync: fleet.Synced, Health: fleet.Healthy, Objects: 40, Drifted: 1, Synced: time.Unix(1, 0)})
	}
	m.Watch(metrics.Sources{
		Apps: func() []metrics.App { return apps }, Repositories: func() []metrics.Repository { return nil },
		Queue: func() metrics.Queue { return metrics.Queue{} },
	})
	lines := 0
	for line := range strings.Lines(scrape(t, m)) {
		if strings.HasPrefix(line, "capstan_") {
			lines++
		}
	}
	if lines < 3000 || lines > 3100 {
		t.Errorf("%d series of 1,000 apps", lines)
	}
}

func TestRequestsAreCountedByVerbAndCode(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Busy") != "" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	m := metrics.New("v1", nil)
	client := &http.Client{Transport: m.API(http.DefaultTransport)}
	ask := func(method, path string, busy bool) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if busy {
			r.Header.Set("Busy", "yes")
		}
		resp, err := client.Do(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body) // only that it was asked counts
		resp.Body.Close()
	}
	for _, q := range []struct{ method, path string }{
		{"GET", "/api/v1/namespaces/shop/configmaps/greeting"},
		{"GET", "/api/v1/namespaces/shop"},
		{"GET", "/api/v1/namespaces"},
		{"GET", "/apis/apps/v1/deployments?limit=500"},
		{"GET", "/apis/apps/v1/namespaces/shop/deployments?watch=true"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=capstan"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web?dryRun=All&fieldManager=capstan"},
		{"PUT", "/apis/coordination.k8s.io/v1/namespaces/capstan-system/leases/capstan-agent"},
		{"POST", "/api/v1/namespaces/capstan-system/secrets"},
		{"DELETE", "/api/v1/namespaces/shop/configmaps/greeting"},
		{"GET", "/version"},
		{"GET", "/apis"},
		{"GET", "/apis/apps/v1"},
		{"GET", "/api/v1"},
		{"GET", "/"},
		{"TRACE", "/api/v1/nodes/a"},
	} {
		ask(q.method, q.path, false)
	}
	ask(http.MethodPatch, "/api/v1/namespaces/shop/configmaps/greeting", true)
	server.Close()
	ask(http.MethodGet, "/api/v1/namespaces/shop/configmaps/greeting", false)
	has(t, scrape(t, m),
		`capstan_agent_api_requests_total{code="200",verb="get"} 2`,
		`capstan_agent_api_requests_total{code="200",verb="list"} 2`,
		`capstan_agent_api_requests_total{code="200",verb="watch"} 1`,
		`capstan_agent_api_requests_total{code="200",verb="patch"} 1`,
		`capstan_agent_api_requests_total{code="200",verb="dry-run"} 1`,
		`capstan_agent_api_requests_total{code="200",verb="update"} 1`,
		`capstan_agent_api_requests_total{code="200",verb="create"} 1`,
		`capstan_agent_api_requests_total{code="200",verb="delete"} 1`,
		`capstan_agent_api_requests_total{code="200",verb="discovery"} 5`,
		`capstan_agent_api_requests_total{code="200",verb="other"} 1`,
		`capstan_agent_api_requests_total{code="429",verb="patch"} 1`,
		`capstan_agent_api_requests_total{code="error",verb="get"} 1`,
		`capstan_agent_api_request_duration_seconds_count{verb="get"} 3`,
	)
}

func TestDashboardAndAlertsAreAboutMetricsThatExist(t *testing.T) {
	m := busy()
	ended := errors.New("the connection was closed")
	transport := m.API(failing{ended})
	if _, err := transport.RoundTrip(httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)); !errors.Is(err, ended) { //nolint:bodyclose // there is none
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "manifests", "monitoring")
	if n := monitoringtest.Check(t, scrape(t, m), filepath.Join(dir, "agent-alerts.yaml"), filepath.Join(dir, "agent-dashboard.json")); n < 20 {
		t.Errorf("only %d metrics are named", n)
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
