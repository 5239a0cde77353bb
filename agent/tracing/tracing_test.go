package tracing_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/capstan-gitops/capstan/agent/tracing"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	path   string
	raw    string // all that was sent
	spans  []*tracepb.Span
	values map[string]string // of the resource
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{values: map[string]string{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent tracepb.TracesData // as an ExportTraceServiceRequest is
	if err == nil {
		err = proto.Unmarshal(body, &sent)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.path, c.raw = r.URL.Path, c.raw+string(body)
	for _, rs := range sent.ResourceSpans {
		for _, kv := range rs.Resource.Attributes {
			c.values[kv.Key] = kv.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) span(t *testing.T, name string) *tracepb.Span {
	t.Helper()
	for _, s := range c.spans {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no span %s among %d", name, len(c.spans))
	return nil
}

func attributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes {
		out[kv.Key] = kv.Value.GetStringValue()
		if n, ok := kv.Value.Value.(*v1.AnyValue_IntValue); ok {
			out[kv.Key] = strconv.FormatInt(n.IntValue, 10)
		}
	}
	return out
}

func tracer(t *testing.T, cfg tracing.Config) *tracing.Tracer {
	t.Helper()
	tr, err := tracing.New(t.Context(), cfg, tracing.About{Cluster: "edge-7", Version: "v1.2.3", Instance: "pod-1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// did has something done for an app.
func did(t *testing.T, tr *tracing.Tracer, err error) {
	t.Helper()
	ctx, looked := tr.Look(t.Context(), web)
	_, rendered := tr.Step(ctx, tracing.Step{Name: "render", App: web})
	rendered(err)
	looked(err)
}

var web = fleet.AppName{Namespace: "shop", Name: "web"}

func TestASyncIsATrace(t *testing.T) {
	c := collect(t)
	tr := tracer(t, tracing.Config{Endpoint: c.URL})
	tr.Fetched(fetch("main@sha1:abc"))
	tr.Fetched(fetch("other@sha1:def"))
	ctx, looked := tr.Look(t.Context(), web)
	_, rendered := tr.Step(ctx, tracing.Step{Name: "render", App: web, Revision: "main@sha1:abc", Path: "apps/web"})
	rendered(nil)
	gated, passed := tr.Step(ctx, tracing.Step{Name: "gate", App: web, Digest: "sha256:def"})
	_, previewed := tr.Step(gated, tracing.Step{Name: "preview", App: web, Objects: 3})
	previewed(nil)
	passed(nil)
	_, applied := tr.Step(ctx, tracing.Step{Name: "apply", App: web, Objects: 3})
	applied(errors.New(`Secret shop/db: Invalid value: "hunter2"`))
	looked(errors.New("hunter2"))
	_, told := tr.Afterwards(context.Background(), tracing.Step{Name: "status", App: web})
	told(nil)
	_, again := tr.Afterwards(context.Background(), tracing.Step{Name: "status", App: web})
	again(nil)
	_, idle := tr.Look(t.Context(), web)
	idle(nil)
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	if c.path != "/v1/traces" || c.values["service.name"] != "capstan-agent" || c.values["service.version"] != "v1.2.3" || c.values["k8s.cluster.name"] != "edge-7" {
		t.Errorf("sent to %s, of %v", c.path, c.values)
	}
	if strings.Contains(c.raw, "hunter2") {
		t.Error("what was sent holds a value")
	}
	if len(c.spans) != 8 {
		t.Errorf("%d spans: a look in which nothing was done, or a second status, has one", len(c.spans))
	}
	fetched, sync := c.span(t, "fetch"), c.span(t, "sync") // the first of each
	if a := attributes(sync); a["capstan.app"] != "web" || a["capstan.namespace"] != "shop" || a["capstan.revision"] != "main@sha1:abc" || a["capstan.digest"] != "sha256:def" {
		t.Errorf("sync has %v", a)
	}
	if len(sync.Links) != 1 || string(sync.Links[0].TraceId) != string(fetched.TraceId) {
		t.Errorf("the sync is not linked to the fetch that brought its revision: %v", sync.Links)
	}
	if a := attributes(fetched); a["capstan.repository"] != "https://git.example.com/fleet.git" || a["capstan.follows"] != "branch main" || a["capstan.revision"] != "main@sha1:abc" {
		t.Errorf("fetch has %v", a)
	}
	if d := time.Duration(fetched.EndTimeUnixNano - fetched.StartTimeUnixNano); d != 100*time.Millisecond {
		t.Errorf("the fetch took %s", d)
	}
	for name, parent := range map[string]string{"render": "sync", "gate": "sync", "preview": "gate", "apply": "sync", "status": "sync"} {
		s, p := c.span(t, name), c.span(t, parent)
		if string(s.ParentSpanId) != string(p.SpanId) || string(s.TraceId) != string(sync.TraceId) {
			t.Errorf("%s is not within %s", name, parent)
		}
	}
	if a := attributes(c.span(t, "apply")); a["capstan.objects"] != "3" {
		t.Errorf("apply has %v", a)
	}
	if c.span(t, "apply").Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || sync.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || c.span(t, "render").Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		t.Error("what failed is not what is said to have failed")
	}
}

// fetch is a look at a repository that brought a revision.
func fetch(r fleet.Revision) tracing.Fetch {
	return tracing.Fetch{
		Repository: "https://git.example.com/fleet.git", Follows: "branch main", Revision: r,
		Began: time.Now().Add(-time.Second), Took: 100 * time.Millisecond,
	}
}

func TestAFetchThatFailedBroughtNothing(t *testing.T) {
	c := collect(t)
	tr := tracer(t, tracing.Config{Endpoint: c.URL})
	tr.Fetched(tracing.Fetch{Repository: "https://git.example.com/fleet.git", Follows: "branch main", Began: time.Now(), Failed: true})
	did(t, tr, nil) // of a revision that nobody fetched
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := c.span(t, "fetch"); f.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("it is not said to have failed: %v", f)
	}
	if links := c.span(t, "sync").Links; len(links) != 0 {
		t.Errorf("linked to %v", links)
	}
}

func TestTheEnvironmentSaysWhereTracesGo(t *testing.T) {
	c := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL+"/otlp")
	tr := tracer(t, tracing.Config{})
	did(t, tr, errors.New("no"))
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.path != "/otlp/v1/traces" || c.span(t, "render").Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("sent to %q", c.path)
	}
}

func TestWhetherThereAreTraces(t *testing.T) {
	for _, tt := range []struct {
		endpoint, variable string
		on                 bool
	}{
		{"", "", false},
		{"http://collector:4318", "", true},
		{"", "OTEL_EXPORTER_OTLP_ENDPOINT", true},
		{"", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", true},
		{"", "OTEL_SERVICE_NAME", false},
	} {
		lookup := func(name string) (string, bool) { return "http://other:4318", name == tt.variable }
		if on := (tracing.Config{Endpoint: tt.endpoint}).On(lookup); on != tt.on {
			t.Errorf("%q and %s: %v", tt.endpoint, tt.variable, on)
		}
	}
}

func TestAnEndpointIsAURL(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"": true, "http://collector:4318": true, "https://otel.example.com/custom/v1/traces": true,
		"collector:4318": false, "grpc://collector:4317": false, "http://": false, "https://user:password@otel.example.com": false,
	} {
		err := tracing.Config{Endpoint: endpoint}.Validate()
		if ok != (err == nil) || err != nil && (!errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// A collector that takes nothing costs traces, and nothing else.
func TestACollectorThatTakesNothingIsSaidOnce(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var said strings.Builder
	tr, err := tracing.New(t.Context(), tracing.Config{Endpoint: server.URL}, tracing.About{}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 { // more than are sent at once
		did(t, tr, nil)
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(said.String(), "traces can't be sent"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
}
