package hub_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/hub"
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

// expressions are all of the rules' and the dashboard's, by where they are.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "manifests", "monitoring", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var rules struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(read("alerts.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if out[r.Alert] != "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %q is there twice, or lacks severity, summary or description", r.Alert)
			}
			out[r.Alert] = r.Expr
		}
	}
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(read("dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			out[fmt.Sprintf("panel %q %d", p.Title, i)] = strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
		}
	}
	return out
}

var metricName = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)[ {]`)

// A panel or an alert about a metric that does not exist never shows anything.
func TestDashboardAndAlertsAreAboutMetricsThatExist(t *testing.T) {
	known := []string{"up"} // Prometheus' own
	for _, m := range metricName.FindAllStringSubmatch(measured(t), -1) {
		known = append(known, m[1])
	}
	n := 0
	for where, expr := range expressions(t) {
		parsed, err := metricsql.Parse(expr)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		metricsql.VisitAll(parsed, func(e metricsql.Expr) {
			m, ok := e.(*metricsql.MetricExpr)
			if !ok {
				return
			}
			n++
			for _, filters := range m.LabelFilterss {
				for _, f := range filters {
					if f.Label == "__name__" && !slices.Contains(known, f.Value) {
						t.Errorf("%s: there is no metric %s", where, f.Value)
					}
				}
			}
		})
	}
	if n < 20 {
		t.Errorf("only %d metrics are named", n)
	}
}
