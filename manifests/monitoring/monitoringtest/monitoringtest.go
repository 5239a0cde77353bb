// Package monitoringtest checks rules and dashboards against what is measured: a
// panel or an alert about a metric that does not exist never shows anything.
package monitoringtest

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"sigs.k8s.io/yaml"
)

var metricName = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)[ {]`)

// Check reads alerting rules and a dashboard, and fails where one is about a
// metric that is not in exposition, which is what Prometheus would scrape. It
// returns how many metrics they name.
func Check(t *testing.T, exposition, rules, dashboard string) int {
	t.Helper()
	known := []string{"up"} // Prometheus' own
	for _, m := range metricName.FindAllStringSubmatch(exposition, -1) {
		known = append(known, m[1])
	}
	n := 0
	for where, expr := range expressions(t, rules, dashboard) {
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
	return n
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// expressions are all of the rules' and the dashboard's, by where they are.
func expressions(t *testing.T, rulesFile, dashboardFile string) map[string]string {
	t.Helper()
	out := map[string]string{}
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
	if err := yaml.UnmarshalStrict(read(t, rulesFile), &rules); err != nil {
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
	if err := json.Unmarshal(read(t, dashboardFile), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			out[fmt.Sprintf("panel %q %d", p.Title, i)] = strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
		}
	}
	return out
}
