package reconcile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// helmText is a chart of one ConfigMap, which shows what the chart was given.
func helmText(q unit.RenderRequest) string {
	var from []string
	for _, d := range q.Helm.ValuesFrom {
		from = append(from, string(d.Content))
	}
	hook := ""
	if q.Helm.Hooks != "" {
		hook = hookOf("chart", "1", "helm.sh/hook: pre-install") + "\n---\n"
	}
	return hook + fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: chart, namespace: shop}\ndata: {release: %q, namespace: %q, values: %q, from: %q, kubernetes: %q}\n",
		q.Release.Name, q.Release.Namespace, q.Helm.Values, strings.Join(from, ";"), q.Facts.Kubernetes)
}

const chartApp = `apiVersion: capstan.dev/v1alpha1
kind: App
metadata: {name: web, namespace: capstan-system}
spec:
  source: {path: web, helm: {values: {a: b}, valuesFrom: [{kind: ConfigMap, name: more, optional: true}, {kind: %s, name: settings}]}}
  targetNamespace: shop
`

var chartMap = fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "chart"}

func inAgentsNamespace(kind, name string) fleet.ObjectRef {
	return fleet.ObjectRef{Version: "v1", Kind: kind, Namespace: "capstan-system", Name: name}
}

func settings(values string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"capstan-system"},"data":{"values.yaml":%q}}`, values)
}

func TestAChartIsRenderedAnewWhenItsValuesInTheClusterMove(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": fmt.Sprintf(chartApp, "ConfigMap"), "web": "chart"}, func(c *reconcile.Config) { c.KubernetesVersion, c.ValuesPoll = "v1.37.2", 10*time.Millisecond })
	missing := s.because("web", "ValuesUnavailable")
	if !strings.Contains(missing.Message, "spec.source.helm.valuesFrom[1]: ConfigMap capstan-system/settings is not there") || missing.Sync != fleet.SyncUnknown {
		t.Errorf("%+v", missing)
	}
	s.cluster.edit(inAgentsNamespace("ConfigMap", "settings"), settings("x: 1"))
	s.synced("web")
	if got := s.cluster.content(chartMap); got != `{"apiVersion":"v1","data":{"from":"x: 1","kubernetes":"v1.37.2","namespace":"shop","release":"web","values":"{\"a\":\"b\"}"},"kind":"ConfigMap","metadata":{"name":"chart","namespace":"shop"}}` {
		t.Errorf("applied %s", got)
	}
	s.cluster.edit(inAgentsNamespace("ConfigMap", "settings"), settings("x: 2"))
	s.until("web", "rendered with the new values", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(chartMap), "x: 2") })

	// While it is away, what runs is left alone, and it is not forgotten that it was there.
	s.cluster.edit(inAgentsNamespace("ConfigMap", "settings"), "")
	s.because("web", "ValuesUnavailable")
	if got := s.cluster.content(chartMap); !strings.Contains(got, "x: 2") {
		t.Errorf("what runs became %s", got)
	}
}

func TestTheAgentsOwnSecretsAreNotForApps(t *testing.T) {
	root := strings.ReplaceAll(fmt.Sprintf(chartApp, "Secret"), "name: settings", "name: capstan-keys")
	root += "\n---\n" + strings.NewReplacer("name: web", "name: db", "path: web", "path: web, helm: {chart: {repository: 'https://x.example', name: x, version: 1.0.0, secretRef: {name: capstan-git}}}").Replace(rootOf("web"))
	s := newSpoke(t, map[string]string{"root": root, "web": "chart"}, nil)
	for _, name := range []string{"capstan-keys", "capstan-git"} {
		s.cluster.edit(inAgentsNamespace("Secret", name), `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x","namespace":"capstan-system"},"data":{"values.yaml":"eDogMQ==","username":"eA=="}}`)
	}
	for name, reason := range map[string]string{"web": "ValuesUnavailable", "db": "ChartUnavailable"} {
		if got := s.because(name, reason); !strings.Contains(got.Message, "is the agent's own, and not for Apps") {
			t.Errorf("%+v", got)
		}
	}
}

// What can't be fetched is told, tried again by itself, and then applied.
func TestAChartThatCantBeFetchedIsTriedAgain(t *testing.T) {
	const root = "apiVersion: capstan.dev/v1alpha1\nkind: App\nmetadata: {name: web, namespace: capstan-system}\nspec: {targetNamespace: shop, source: {path: web, helm: {chart: {repository: 'https://charts.example', name: x, version: 1.0.0, secretRef: {name: registry}}}}}\n"
	s := newSpoke(t, map[string]string{"root": root, "web": "chart"}, nil)
	s.repo.mu.Lock()
	s.repo.chartAway = true
	s.repo.mu.Unlock()
	if got := s.because("web", "ChartUnavailable"); !strings.Contains(got.Message, "Secret capstan-system/registry is not there") {
		t.Errorf("%+v", got)
	}
	s.cluster.edit(inAgentsNamespace("Secret", "registry"), `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"registry","namespace":"capstan-system"},"data":{"username":"bWU=","password":"c2VjcmV0Cg=="}}`)
	s.until("web", "the chart is away", func(a fleet.AppStatus) bool {
		return a.Reason == "ChartUnavailable" && a.Message == "x 1.0.0: no answer" && a.Sync == fleet.SyncUnknown
	})
	s.repo.mu.Lock()
	s.repo.chartAway = false
	s.repo.mu.Unlock()
	s.synced("web")
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	if s.repo.access != "me" {
		t.Errorf("fetched as %q", s.repo.access)
	}
}
