package render_test

import (
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
)

const shownChart = `apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}
data: {a: "{{ .Values.a }}", b: "{{ .Values.b }}", list: "{{ .Values.list }}", kube: "{{ .Capabilities.KubeVersion.Version }}", api: "{{ .Capabilities.APIVersions.Has "x/v1" }}"}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {type: ClusterIP, publishNotReadyAddresses: yes}
`

// inflated is a kustomization over a chart that shows what it was given.
func inflated(kustomization string) files {
	return files{
		"a/kustomization.yaml":        kustomization,
		"a/charts/x/Chart.yaml":       "apiVersion: v2\nname: x\nversion: 1.0.0\n",
		"a/charts/x/values.yaml":      "a: chart\nb: chart\nlist: [1, 2]\n",
		"a/charts/x/templates/x.yaml": shownChart,
		"a/charts/x/templates/t.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: t, annotations: {helm.sh/hook: test}}\n",
		"a/charts/x/crds/c.yaml":      "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c.example}\n",
		"a/values.yaml":               "a: file\nlist: [3]\n",
		"a/more.yaml":                 "b: more\n",
	}
}

func TestKustomizeHasItsChartsRenderedHere(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	for _, c := range []struct{ name, kustomization, want string }{
		{"plain", "helmCharts: [{name: x, releaseName: r}]\n", `"a":"chart","api":"false","b":"chart","kube":"v1.36.3","list":"[1 2]"`},
		{"values file", "helmCharts: [{name: x, releaseName: r, valuesFile: values.yaml, additionalValuesFiles: [more.yaml]}]\n", `"a":"file","api":"false","b":"more","kube":"v1.36.3","list":"[3]"`},
		{"inline over the file", "helmCharts: [{name: x, releaseName: r, valuesFile: values.yaml, valuesInline: {a: inline, list: [4]}}]\n", `"a":"inline","api":"false","b":"chart","kube":"v1.36.3","list":"[4]"`},
		{"inline under the file", "helmCharts: [{name: x, releaseName: r, valuesFile: values.yaml, valuesInline: {a: inline, b: inline}, valuesMerge: merge}]\n", `"a":"file","api":"false","b":"inline","kube":"v1.36.3","list":"[3]"`},
		{"inline alone", "helmCharts: [{name: x, releaseName: r, valuesFile: values.yaml, valuesInline: {b: inline}, valuesMerge: replace}]\n", `"a":"chart","api":"false","b":"inline","kube":"v1.36.3","list":"[1 2]"`},
		{"capabilities", "helmCharts: [{name: x, releaseName: r, kubeVersion: v1.31.0, apiVersions: [x/v1]}]\n", `"a":"chart","api":"true","b":"chart","kube":"v1.31.0","list":"[1 2]"`},
		{"the old field", "helmChartInflationGenerator: [{chartName: x, releaseName: r, chartHome: charts, valuesLocal: {a: local}}]\n", `"a":"local","api":"false","b":"chart","kube":"v1.36.3","list":"[1 2]"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := objectsOf(t, r, askChart(inflated(c.kustomization), "a", nil))
			if got := all["ConfigMap default/r"]; !strings.Contains(got, `"data":{`+c.want+`}`) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			if got := all["Service r"]; len(all) != 2 || !strings.Contains(got, `"publishNotReadyAddresses":true`) || strings.Contains(got, "helm-generated") {
				t.Errorf("%v", all)
			}
		})
	}
}

// Patches, names and labels apply to what a chart gave as to anything else; the
// namespace does not: the chart was told it.
func TestKustomizeGoesOverWhatAChartGave(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	repo := inflated("namespace: store\nnamePrefix: p-\nresources: [own.yaml]\nhelmGlobals: {chartHome: charts}\nhelmCharts:\n- name: x\n  releaseName: r\n  includeCRDs: true\n- {name: x, releaseName: second, namespace: elsewhere}\npatches: [{target: {kind: ConfigMap, name: r}, patch: '[{\"op\": \"add\", \"path\": \"/data/patched\", \"value\": \"1\"}]'}]\n").
		With(files{"a/own.yaml": named("own")})
	all := objectsOf(t, r, askChart(repo, "a", nil))
	for ref, part := range map[string]string{
		"ConfigMap store/p-own": `"name":"p-own"`, "ConfigMap store/p-r": `"patched":"1"`, "Service p-r": `"ClusterIP"`,
		"CustomResourceDefinition.apiextensions.k8s.io c.example": ``, "ConfigMap elsewhere/p-second": `"a":"chart"`, "Service p-second": ``,
	} {
		if got, ok := all[ref]; !ok || !strings.Contains(got, part) {
			t.Errorf("%s: %q of %v", ref, got, all)
		}
	}
	if len(all) != 6 {
		t.Errorf("%v", all)
	}
	// A base's charts are told the namespace of the overlay.
	above := repo.With(inflated("helmCharts: [{name: x, releaseName: r}]\n")).With(files{"over/kustomization.yaml": "namespace: outer\nresources: [../a]\n"})
	if all := objectsOf(t, r, askChart(above, "over", nil)); all["ConfigMap outer/r"] == "" {
		t.Errorf("%v", all)
	}
}

func TestAKustomizationsChartIsReadExactly(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	repo := inflated("helmCharts: [{name: x, releaseName: r, valuesFile: values.yaml}]\n")
	q := askChart(repo, "a", nil)
	got, err := r.Render(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for name := range repo {
		tree := newMemTree()
		same, err := got.Reads.Holds(t.Context(), tree, tree.Add(repo.With(files{name: repo[name] + "\n"})), q.Facts, r.Version())
		if err != nil || same != (name == "a/more.yaml") {
			t.Errorf("%s changed: holds %t, %v", name, same, err)
		}
	}
	if _, ok := got.Reads.Paths["a/.helmCharts.yaml"]; ok || got.Reads.Kubernetes == "" {
		t.Errorf("reads %v", got.Reads)
	}
	hooks := repo.With(files{"a/charts/x/templates/h.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: h, annotations: {helm.sh/hook: post-install}}\n"})
	if all := objectsOf(t, r, askChart(hooks, "a", nil)); len(all) != 3 {
		t.Errorf("%v", all)
	}
	hooks["a/kustomization.yaml"] = "helmCharts: [{name: x, releaseName: r, skipHooks: true}]\n"
	if all := objectsOf(t, r, askChart(hooks, "a", nil)); len(all) != 2 {
		t.Errorf("%v", all)
	}
}
