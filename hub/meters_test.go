package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/manifests/monitoring/monitoringtest"
	"github.com/capstan-gitops/capstan/pkg/client"
)

// measured runs a hub in which everything has happened once, and returns what
// Prometheus would read.
func measured(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	secrets, routes := filepath.Join(dir, "secrets"), filepath.Join(dir, "notify.yaml")
	for file, text := range map[string]string{
		secrets: "github * correct-horse-battery\n",
		routes:  "routes: [{name: oncall, on: [stale], slack: {urlFile: none}}]\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, stop := run(t, hub.Config{DataDir: filepath.Join(dir, "hub"), MetricsListen: "127.0.0.1:0", HookSecretsFile: secrets, NotifyFile: routes, Version: "v1.2.3"})
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	token := adminToken(t, a)
	get(t, a.URL+client.Prefix+"/apps", token)
	get(t, a.URL+client.Prefix+"/clusters/no-such-cluster/apps/a/b/plan", token)
	get(t, a.URL+"/no-such-page", token)
	post(t, a.URL+"/hooks/github")
	code, text := get(t, "http://"+a.Metrics+"/metrics", "")
	if code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	if code, _ := get(t, a.URL+"/metrics", ""); code == 200 {
		t.Error("people's address shows metrics to strangers")
	}
	return text
}

func TestTheHubIsMeasured(t *testing.T) {
	text := measured(t)
	for _, want := range []string{
		`capstan_build_info{go_version="go`, `version="v1.2.3"} 1`, `capstan_clusters{state="stale"} 0`, `capstan_apps{health="Degraded",sync="Synced"} 0`,
		`capstan_http_requests_total{code="200",route="GET /api/v1/apps"} 1`,
		`route="GET /api/v1/clusters/{cluster}/apps/{namespace}/{app}/plan"} 1`,
		`capstan_webhooks_total{outcome="refused",provider="github"} 1`,
		`capstan_notifications_total{kind="slack",outcome="failed",route="oncall"} 0`,
		`capstan_store_max_bytes{name="audit"}`, `capstan_scrape_ok{source="fleet"} 1`, `capstan_scrape_ok{source="store"} 1`, "capstan_nats_connections 0",
		`capstan_agent_messages_total{message="status",outcome="forbidden"} 0`, "process_resident_memory_bytes", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "no-such") {
		t.Error("what strangers write becomes a label")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// A panel or an alert about a metric that does not exist never shows anything.
func TestDashboardAndAlertsAreAboutMetricsThatExist(t *testing.T) {
	dir := filepath.Join("..", "manifests", "monitoring")
	if n := monitoringtest.Check(t, measured(t), filepath.Join(dir, "alerts.yaml"), filepath.Join(dir, "dashboard.json")); n < 20 {
		t.Errorf("only %d metrics are named", n)
	}
}
