package render_test

import (
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// shop is a chart as people write them: helpers, a subchart under a condition,
// globals, a schema, a CRD, hooks and tests.
var shop = files{
	"charts/shop/Chart.yaml": `apiVersion: v2
name: shop
version: 1.4.0
appVersion: "7.1"
kubeVersion: ">=1.30.0-0"
dependencies:
- name: cache
  version: 0.3.x
  repository: https://charts.example
  condition: cache.enabled
- name: metrics
  version: ">=0.1.0"
  repository: ""
  tags: [observability]
`,
	"charts/shop/.helmignore": "*.bak\nsecret-notes/\n",
	"charts/shop/values.yaml": `replicas: 1
image: {repository: registry.example/shop, tag: ""}
greeting: hello
labels: {}
extra: []
cache: {enabled: true}
tags: {observability: false}
global: {team: storefront}
`,
	"charts/shop/values.schema.json": `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{
		"replicas":{"$ref":"#/$defs/count"},"greeting":{"type":"string","maxLength":40}},"$defs":{"count":{"type":"integer","minimum":0}}}`,
	"charts/shop/templates/_helpers.tpl": `{{- define "shop.fullname" -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- define "shop.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
team: {{ .Values.global.team }}
{{- end }}
`,
	"charts/shop/templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "shop.fullname" . }}
  labels: {{- include "shop.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: {{ include "shop.fullname" . }}}
  template:
    metadata:
      labels: {app: {{ include "shop.fullname" . }}}
      annotations:
        checksum/config: {{ include (print $.Template.BasePath "/config.yaml") . | sha256sum }}
    spec:
      containers:
      - name: shop
        image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
        tty: yes
`,
	"charts/shop/templates/config.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: {{ include "shop.fullname" . }}}
data:
  greeting: {{ tpl .Values.greeting . | quote }}
  motd: |-
    {{- .Files.Get "files/motd.txt" | nindent 4 }}
  kube: {{ .Capabilities.KubeVersion.Version }}
  widgets: {{ .Capabilities.APIVersions.Has "widgets.example/v1" | quote }}
  release: "{{ .Release.Namespace }} {{ .Release.IsInstall }} {{ .Release.IsUpgrade }} {{ .Release.Revision }}"
  found: {{ lookup "v1" "Secret" "default" "x" | toJson | quote }}
  host: {{ getHostByName "example.com" | quote }}
  ignored: {{ .Files.Get "old.bak" | quote }}
{{- range $i, $e := .Values.extra }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: extra-{{ $e }}}
{{- end }}
---
# nothing here
`,
	"charts/shop/templates/NOTES.txt":                          "Thanks for {{ .Release.Name }}.\nkind: [not yaml",
	"charts/shop/templates/tests/check.yaml":                   "apiVersion: v1\nkind: Pod\nmetadata:\n  name: check\n  annotations: {helm.sh/hook: test}\n",
	"charts/shop/files/motd.txt":                               "line one\nline two",
	"charts/shop/old.bak":                                      "x",
	"charts/shop/secret-notes/n.yaml":                          "x",
	"charts/shop/crds/widgets.yaml":                            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example}\n",
	"charts/shop/charts/cache/Chart.yaml":                      "apiVersion: v2\nname: cache\nversion: 0.3.7\n",
	"charts/shop/charts/cache/values.yaml":                     "size: 1Gi\n",
	"charts/shop/charts/cache/templates/service.yaml":          "apiVersion: v1\nkind: Service\nmetadata: {name: {{ .Release.Name }}-cache, labels: {team: {{ .Values.global.team }}, size: {{ .Values.size }}}}\n",
	"charts/shop/charts/metrics/Chart.yaml":                    "apiVersion: v2\nname: metrics\nversion: 0.1.2\n",
	"charts/shop/charts/metrics/templates/servicemonitor.yaml": "apiVersion: monitoring.example/v1\nkind: Monitor\nmetadata: {name: {{ .Release.Name }}}\n",
	"values/prod.yaml":                                         "replicas: 3\ngreeting: from prod\n",
	"charts/shop/ci/more.yaml":                                 "labels: {a: b}\nextra: [one]\n",
}

func askChart(repo files, path string, h *unit.Helm) unit.RenderRequest {
	q := ask(repo, path)
	q.Facts.Kubernetes = "v1.36.3"
	q.Release = unit.Release{Name: "web", Namespace: "store"}
	q.Helm = h
	return q
}

// chartOf is a chart with the templates given, and nothing else.
func chartOf(templates files) files {
	repo := files{"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n"}
	for name, content := range templates {
		repo["c/"+name] = content
	}
	return repo
}

func objectsOf(t *testing.T, r *render.Renderer, q unit.RenderRequest) map[string]string {
	t.Helper()
	got, err := r.Render(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, o := range got.Objects {
		all[o.Ref.String()] = string(o.JSON)
	}
	return all
}

func TestAChartBecomesObjectsAsHelmInstallsThem(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	got, err := r.Render(t.Context(), askChart(shop, "charts/shop", nil))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, o := range got.Objects {
		order = append(order, o.Ref.String())
	}
	const want = "CustomResourceDefinition.apiextensions.k8s.io widgets.example, ConfigMap web-shop, Service web-cache, Deployment.apps web-shop"
	if s := strings.Join(order, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	all := objectsOf(t, r, askChart(shop, "charts/shop", nil))
	for ref, parts := range map[string][]string{
		"ConfigMap web-shop": {
			`"greeting":"hello"`, `"motd":"line one\nline two"`, `"kube":"v1.36.3"`, `"widgets":"false"`, `"release":"store true false 1"`,
			`"found":"{}"`, `"host":""`, `"ignored":""`,
		},
		"Deployment.apps web-shop": {`"image":"registry.example/shop:7.1"`, `"tty":true`, `"replicas":1`, `"team":"storefront"`, `"app.kubernetes.io/managed-by":"Helm"`},
		"Service web-cache":        {`"team":"storefront"`, `"size":"1Gi"`},
	} {
		for _, part := range parts {
			if !strings.Contains(all[ref], part) {
				t.Errorf("%s has no %s: %s", ref, part, all[ref])
			}
		}
	}
	if got.Reads.Kubernetes != "v1.36.3" {
		t.Errorf("the version of Kubernetes is not among the reads: %+v", got.Reads)
	}
	for _, p := range []string{"charts/shop/Chart.yaml", "charts/shop/files/motd.txt", "charts/shop/charts/cache/templates/service.yaml", "charts/shop/templates"} {
		if _, ok := got.Reads.Paths[p]; !ok {
			t.Errorf("%s is not among the reads", p)
		}
	}
	if _, ok := got.Reads.Paths["charts/shop/secret-notes/n.yaml"]; ok {
		t.Error("a file that .helmignore names was read")
	}
}

// Chart values < valuesFiles in order < valuesFrom in order < inline values.
func TestLaterValuesWin(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	h := &unit.Helm{
		ReleaseName: "named", SkipCRDs: true, APIVersions: []string{"widgets.example/v1"},
		ValuesFiles: []string{"/values/{{ label \"which\" }}.yaml", "ci/more.yaml"},
		ValuesFrom:  []unit.ValuesDocument{{From: "ConfigMap store/v, key values.yaml", Content: []byte("greeting: from the cluster\nimage: {tag: v9}\n")}},
		Values:      []byte(`{"image":{"repository":"{{ .cluster.name }}.registry.example/shop"},"greeting":"{{ label \"which\" }} {{ \"{{\" }} .Release.Name }}","tags":{"observability":true},"cache":{"enabled":false}}`),
	}
	q := askChart(shop, "charts/shop", h)
	q.Facts.Labels["which"] = "prod"
	all := objectsOf(t, r, q)
	if len(all) != 4 {
		t.Errorf("objects: %v", all)
	}
	for ref, part := range map[string]string{
		"ConfigMap named-shop":             `"greeting":"prod named"`,
		"ConfigMap extra-one":              `extra-one`,
		"Deployment.apps named-shop":       `"image":"dev-1.registry.example/shop:v9"`,
		"Monitor.monitoring.example named": `named`,
	} {
		if !strings.Contains(all[ref], part) {
			t.Errorf("%s has no %s: %s", ref, part, all[ref])
		}
	}
	if s := all["ConfigMap named-shop"]; !strings.Contains(s, `"widgets":"true"`) {
		t.Errorf("spec.source.helm.apiVersions does not count: %s", s)
	}
	if s := all["Deployment.apps named-shop"]; !strings.Contains(s, `"replicas":3`) {
		t.Errorf("a values file does not count: %s", s)
	}
	got, err := r.Render(t.Context(), q)
	if err != nil || got.Reads.Labels["which"] != "prod" || got.Reads.Cluster != "dev-1" {
		t.Errorf("%v, %+v", err, got.Reads)
	}
}

func TestWhatIsWrongWithAChartIsSaid(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	const chart = "apiVersion: v2\nname: c\nversion: 1.0.0\n"
	values := func(s string) *unit.Helm { return &unit.Helm{Values: []byte(s)} }
	for _, c := range []struct {
		name, message, hint, file string
		line                      int
		repo                      files
		helm                      *unit.Helm
	}{
		{"no chart", "c/Chart.yaml is not in the repository", "name the chart's directory", "c", 0, files{"c/x.yaml": named("x")}, &unit.Helm{}},
		{"fail", "c/templates/a.yaml:2: execution error at (c/templates/a.yaml:2:3): no way", "helm template", "c/templates/a.yaml", 2, chartOf(files{"templates/a.yaml": "\n{{ fail \"no way\" }}"}), nil},
		{"required", "c/templates/a.yaml:1: ", "helm template", "c/templates/a.yaml", 1, chartOf(files{"templates/a.yaml": "{{ required \"name is required\" .Values.name }}"}), nil},
		{"parse", "unclosed action", "helm template", "c/templates/a.yaml", 2, chartOf(files{"templates/a.yaml": "a: b\n{{ if"}), nil},
		{"output", "c/templates/a.yaml:6: document 2: not valid YAML: mapping values are not allowed", "lines count", "c/templates/a.yaml", 6, chartOf(files{"templates/a.yaml": named("x") + "---\n\na: b: c\n"}), nil},
		{"no object", "c/templates/a.yaml:1: document 1: not a Kubernetes object", "every document", "c/templates/a.yaml", 1, chartOf(files{"templates/a.yaml": "a: b\n"}), nil},
		{"twice", "ConfigMap x is there twice, first in c/templates/a.yaml:1: document 1", "different names", "c/templates/b.yaml", 1, chartOf(files{"templates/a.yaml": named("x"), "templates/b.yaml": named("x")}), nil},
		{"nothing", "c: the chart gives no objects", "take the App away", "c", 0, chartOf(files{"templates/a.yaml": "{{ if .Values.on }}a{{ end }}"}), nil},
		{"library", "a library chart has no objects of its own", "a chart that uses it", "c", 0, files{"c/Chart.yaml": chart + "type: library\n"}, nil},
		{"kube version", "wants Kubernetes <1.20.0, and this cluster has v1.36.3", "another version", "c", 0, chartOf(files{"templates/a.yaml": named("x")}).With(files{"c/Chart.yaml": chart + "kubeVersion: <1.20.0\n"}), nil},
		{"dependency", "dependency redis 17.x is not in charts/", "helm dependency build", "c", 0, chartOf(files{"templates/a.yaml": named("x")}).With(files{"c/Chart.yaml": chart + "dependencies: [{name: redis, version: 17.x, repository: https://charts.example}]\n"}), nil},
		{"schema", "c/values.schema.json: the values are not as the chart wants them: - at '/replicas': got string, want integer", "mend the values", "c/values.schema.json", 0, chartOf(files{"templates/a.yaml": named("x"), "values.schema.json": `{"properties":{"replicas":{"type":"integer"}}}`}), values(`{"replicas":"two"}`)},
		{"broken values", "c: the chart can't be loaded: cannot load values.yaml", "", "c", 0, chartOf(files{"templates/a.yaml": named("x"), "values.yaml": "a: [b"}), nil},
		{"values file", "values file c/no.yaml is not in the repository", "a leading /", "c/no.yaml", 0, chartOf(files{"templates/a.yaml": named("x")}), &unit.Helm{ValuesFiles: []string{"no.yaml"}}},
		{"values file outside", "leaves the repository", "", "", 0, chartOf(files{"templates/a.yaml": named("x")}), &unit.Helm{ValuesFiles: []string{"../../etc/passwd"}}},
		{"no label", `spec.source.helm.values.a[0]: the cluster has no label "region"`, "label the cluster", "", 0, chartOf(files{"templates/a.yaml": named("x")}), values(`{"a":["{{ label \"region\" }}"]}`)},
		{"no word", `spec.source.helm.values.a: {{ .Values.x }} is not known`, `write braces that are meant as such as {{ "{{" }}`, "", 0, chartOf(files{"templates/a.yaml": named("x")}), values(`{"a":"{{ .Values.x }}"}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := refused(t, r, askChart(c.repo, "c", c.helm))
			if !strings.Contains(bad.Message, c.message) || !strings.Contains(bad.Hint, c.hint) || bad.File != c.file || bad.Line != c.line {
				t.Errorf("got  %q\n     hint %q, %s:%d\nwant %q\n     hint %q, %s:%d", bad.Message, bad.Hint, bad.File, bad.Line, c.message, c.hint, c.file, c.line)
			}
		})
	}
}

func TestHooksAreLeftOutWhereSaidAndTestsAlways(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	hook := func(name, events string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", annotations: {helm.sh/hook: \"" + events + "\"}}\n"
	}
	repo := chartOf(files{"templates/a.yaml": named("x"), "templates/h.yaml": hook("pre", "pre-install") + "---\n" + hook("tests", "test-success")})
	for hooks, want := range map[unit.Hooks]string{"": "pre x", unit.HooksRun: "pre x", unit.HooksIgnore: "x", unit.HooksApply: "pre x"} {
		if got := namesOf(t, r, askChart(repo, "c", &unit.Helm{Hooks: hooks})); got != want {
			t.Errorf("%s: got %s, want %s", hooks, got, want)
		}
	}
}

// A path with a kustomization file is built by Kustomize, unless the App says helm.
func TestWhatIsInThePathDecides(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	repo := chartOf(files{"templates/a.yaml": named("chart"), "kustomization.yaml": "resources: [r.yaml]\n", "r.yaml": named("overlay")})
	if got := namesOf(t, r, askChart(repo, "c", nil)); got != "overlay" {
		t.Errorf("without helm: %s", got)
	}
	if got := namesOf(t, r, askChart(repo, "c", &unit.Helm{})); got != "chart" {
		t.Errorf("with helm: %s", got)
	}
}

func TestAChartThatDrawsLotsIsRefused(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	doc := func(value string) files {
		return chartOf(files{"templates/a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: steady}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: moves}\nstringData: {x: {{ " + value + " | quote }}}\n"})
	}
	for _, value := range []string{
		"randAlphaNum 12", "uuidv4", "now", `now | date "2006"`, `now | date "15:04"`, `date "2006" nil`, "htmlDate nil", `(genCA "x" 1).Cert`,
		`tpl "{{ randAlphaNum 9 }}" .`, `htpasswd "a" "b"`, `ago (toDate "2006" "2020")`, `shuffle "abcdefghijklmnopqrstuvwxyz"`, `durationRound (toDate "2006" "2020")`,
	} {
		bad := refused(t, r, askChart(doc(value), "c", nil))
		if !strings.Contains(bad.Message, "every render gives something else") || !strings.Contains(bad.Message, "Secret moves") || strings.Contains(bad.Message, "steady") || bad.Hint == "" {
			t.Errorf("%s: %s", value, bad.Message)
		}
	}
	for _, value := range []string{
		`keys (dict "a" 1 "b" 2 "c" 3 "d" 4 "e" 5) | join ","`, `values (dict "a" 1 "b" 2 "c" 3 "d" 4) | join ","`,
		`dateInZone "15:04" (toDate "2006" "2020") "Europe/Berlin"`, `derivePassword 1 "long" "a" "b" "c"`, `default (randAlphaNum 8) "given"`,
	} {
		first := objectsOf(t, r, askChart(doc(value), "c", nil))["Secret moves"]
		for range 4 {
			if again := objectsOf(t, r, askChart(doc(value), "c", nil))["Secret moves"]; again != first {
				t.Errorf("%s: %s, then %s", value, first, again)
			}
		}
	}
}

func TestNoMessageShowsValuesOfTheCluster(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	const secret = "hunter2-and-more"
	for name, repo := range map[string]files{
		"fail":    chartOf(files{"templates/a.yaml": `{{ fail .Values.password }}`}),
		"output":  chartOf(files{"templates/a.yaml": "a: {{ .Values.password }}: x"}),
		"tpl":     chartOf(files{"templates/a.yaml": `{{ tpl (print "{{ " .Values.password) . }}`}),
		"pattern": chartOf(files{"templates/a.yaml": named("x"), "values.schema.json": `{"properties":{"password":{"pattern":"^x"}}}`}),
		"name":    chartOf(files{"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: {{ .Values.password }}}\n"}),
	} {
		bad := refused(t, r, askChart(repo, "c", &unit.Helm{ValuesFrom: []unit.ValuesDocument{{From: "Secret store/s", Content: []byte("password: " + secret + "\n")}}}))
		if strings.Contains(bad.Message+bad.Hint, "hunter2") {
			t.Errorf("%s: %s", name, bad.Message)
		}
	}
	bad := refused(t, r, askChart(chartOf(files{"templates/a.yaml": named("x")}), "c", &unit.Helm{ValuesFrom: []unit.ValuesDocument{{From: "Secret store/s", Content: []byte("- " + secret + "\n")}}}))
	if strings.Contains(bad.Message, "hunter2") || !strings.HasPrefix(bad.Message, "Secret store/s: not valid values") {
		t.Error(bad.Message)
	}
}

// Whatever of a chart changes has it rendered again, and nothing else does.
func TestAChartsReadSetIsExact(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	q := askChart(shop.With(files{"README.md": "x", "charts/other/Chart.yaml": "x"}), "charts/shop", &unit.Helm{ValuesFiles: []string{"/values/prod.yaml"}})
	q.Facts.Values = "of the cluster"
	got, err := r.Render(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	holds := func(f files, facts unit.Facts) bool {
		tree := newMemTree()
		same, err := got.Reads.Holds(t.Context(), tree, tree.Add(f), facts, r.Version())
		if err != nil {
			t.Fatal(err)
		}
		return same
	}
	for name := range shop {
		want := strings.HasSuffix(name, ".bak") || strings.Contains(name, "secret-notes/")
		if same := holds(shop.With(files{name: shop[name] + "\n"}), q.Facts); same != want {
			t.Errorf("%s changed: holds %t", name, same)
		}
	}
	for name, want := range map[string]bool{
		"charts/shop/templates/new.yaml": false, "charts/shop/charts/new.tgz": false, "charts/shop/kustomization.yaml": false, "charts/shop/new.txt": false,
		"README.md": true, "charts/other/Chart.yaml": true, "values/dev.yaml": true,
	} {
		if same := holds(shop.With(files{name: "new"}), q.Facts); same != want {
			t.Errorf("%s is new: holds %t", name, same)
		}
	}
	facts := q.Facts
	for what, change := range map[string]func(){
		"another Kubernetes":       func() { facts.Kubernetes = "v1.38.0" },
		"other values":             func() { facts.Values = "others" },
		"no values of the cluster": func() { facts.Values = "" },
	} {
		facts = q.Facts
		if change(); holds(shop, facts) {
			t.Errorf("%s: it holds", what)
		}
	}
}
