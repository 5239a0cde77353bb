package api_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

// document is what a hub says of its own API.
type document struct {
	text  string
	paths map[string]map[string]operation
}

type operation struct {
	Summary     string
	OperationID string
	Parameters  []struct{ Name, In string }
	Responses   map[string]struct {
		Content map[string]struct{ Schema json.RawMessage }
	}
	RequestBody *struct{ Content map[string]any }
}

func describedBy(t *testing.T, f *fixture) document {
	t.Helper()
	_, body := f.ask(t, "GET", "/api/openapi.json", "")
	var d struct {
		OpenAPI string
		Paths   map[string]map[string]operation
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil || !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Fatalf("%v: %.200s", err, body)
	}
	return document{body, d.Paths}
}

// find returns the operation that a request is, by its pattern.
func (d document) find(method, path string) (pattern string, op operation, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	for pattern, ops := range d.paths {
		if op, ok := ops[strings.ToLower(method)]; ok && fits(pattern, path) {
			return pattern, op, true
		}
	}
	return "", operation{}, false
}

func fits(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == g || strings.HasPrefix(w, "{") && g != "" })
}

// compiler checks values against schemas of the document.
func (d document) compiler(t *testing.T) func(t *testing.T, pointer, body string) {
	t.Helper()
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(d.text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, pointer, body string) {
		t.Helper()
		schema, err := c.Compile("openapi.json#" + pointer)
		if err != nil {
			t.Fatalf("%s: %v", pointer, err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s is not as described: %v", body, err)
		}
	}
}

func pointer(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(p))
	}
	return b.String()
}

func TestEveryRouteAnswersAsDescribed(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	d := describedBy(t, f)
	check := d.compiler(t)
	called := map[string]bool{}
	for _, c := range calls {
		pattern, op, ok := d.find(c.method, c.path)
		if !ok {
			t.Errorf("%s %s is not described", c.method, c.path)
			continue
		}
		called[c.method+" "+pattern] = true
		if (c.body != "") != (op.RequestBody != nil) {
			t.Errorf("%s %s: a body is sent, or described, alone", c.method, c.path)
		}
		if c.body != "" && c.status/100 == 2 {
			check(t, pointer("paths", pattern, strings.ToLower(c.method), "requestBody", "content", "application/json", "schema"), c.body)
		}
		res, body := f.ask(t, c.method, c.path, c.body, bearer(viewerToken))
		if res.StatusCode/100 != 2 {
			check(t, "/components/schemas/Problem", body)
			continue
		}
		described, ok := op.Responses["200"]
		if res.StatusCode == http.StatusNoContent {
			if described, ok = op.Responses["204"]; !ok || body != "" || len(described.Content) != 0 {
				t.Errorf("%s %s: %s %q is not described", c.method, c.path, res.Status, body)
			}
			continue
		}
		if !ok || len(described.Content["application/json"].Schema) == 0 {
			t.Errorf("%s %s: %s is not described", c.method, c.path, res.Status)
			continue
		}
		if strings.Contains(c.path, "fields=") {
			continue // a part of what is described
		}
		check(t, pointer("paths", pattern, strings.ToLower(c.method), "responses", "200", "content", "application/json", "schema"), body)
	}
	for path, ops := range d.paths {
		for method, op := range ops {
			if key := strings.ToUpper(method) + " " + path; !called[key] && path != "/api/v1/watch" {
				t.Errorf("%s is described, and no test calls it", key)
			}
			if op.Summary == "" || op.OperationID == "" || op.Responses["default"].Content == nil && len(op.Responses) < 2 {
				t.Errorf("%s %s is described in part", method, path)
			}
		}
	}
}

func TestOperationsHaveNamesOfTheirOwn(t *testing.T) {
	d := describedBy(t, serve(t, fleettest.NewHub(fleettest.Sample())))
	seen := map[string]string{}
	for path, ops := range maps.All(d.paths) {
		for method, op := range ops {
			if other := seen[op.OperationID]; other != "" {
				t.Errorf("%s %s and %s are both %s", method, path, other, op.OperationID)
			}
			seen[op.OperationID] = method + " " + path
			for _, p := range op.Parameters {
				if p.In == "path" && !strings.Contains(path, "{"+p.Name+"}") {
					t.Errorf("%s has no %s", path, p.Name)
				}
			}
		}
	}
}

func TestEveryParameterThatIsDescribedIsTaken(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	good := map[string]string{
		"selector": "env", "limit": "1", "fields": "", "since": "2026-03-14T09:26:53Z", "until": "2027-03-14T09:26:53Z", "pending": "true",
		"drifted": "false", "held": "false", "revision": "1111111", "sync": "Synced", "health": "Healthy", "app": "default/guestbook", "cluster": "dev",
		"name": "dev", "namespace": "default", "image": "*", "actor": "x", "action": "label", "continue": "",
	}
	for path, ops := range describedBy(t, f).paths {
		for _, p := range ops["get"].Parameters {
			if p.In != "query" {
				continue
			}
			value, ok := good[p.Name]
			if !ok {
				t.Errorf("%s of %s is not tried", p.Name, path)
			}
			at := strings.NewReplacer("{cluster}", "dev", "{namespace}", "default", "{app}", "guestbook").Replace(path)
			if res, body := f.ask(t, "GET", at+"?"+p.Name+"="+value, "", bearer(viewerToken)); res.StatusCode != 200 {
				t.Errorf("%s?%s=%s: %s %s", at, p.Name, value, res.Status, body)
			}
		}
	}
}
