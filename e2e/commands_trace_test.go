package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes what an agent tells of itself, as OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	raw   strings.Builder
	spans []*tracepb.Span
}

func newCollector() *collector {
	c := &collector{}
	c.Server = httptest.NewServer(c)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &sent)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, rs := range sent.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// traced checks that there is a trace of a sync of an app with these spans, in
// the order in which they began, and that it leads back to the fetch that brought
// its revision. It prints the spans.
func (p *play) traced(args []string) (string, error) {
	if len(args) < 2 || p.collector == nil {
		return "", errUsage
	}
	app, want := args[0], args[1:]
	p.collector.mu.Lock()
	all := slices.Clone(p.collector.spans)
	p.collector.mu.Unlock()
	slices.SortStableFunc(all, func(a, b *tracepb.Span) int { return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano) })
	var seen []string
	for _, sync := range all {
		a := spanAttributes(sync)
		if sync.Name != "sync" || a["capstan.app"] != app || !strings.Contains(a["capstan.digest"], "sha256:") {
			continue
		}
		var names []string
		for _, s := range all {
			if string(s.TraceId) == string(sync.TraceId) && s.Name != sync.Name {
				names = append(names, s.Name)
			}
		}
		fetched := slices.ContainsFunc(all, func(s *tracepb.Span) bool { return causes(s, sync) })
		if slices.Equal(names, want) && fetched {
			return fmt.Sprintf("%v %v\n", a, names), nil
		}
		seen = append(seen, fmt.Sprintf("%v, fetch known: %v", names, fetched))
	}
	return "", fmt.Errorf("no trace of %s has the spans %v; there are %s", app, want, strings.Join(seen, "; "))
}

// causes tells that a span is the fetch that brought what was synced.
func causes(s, sync *tracepb.Span) bool {
	return s.Name == "fetch" && len(sync.Links) == 1 && string(s.TraceId) == string(sync.Links[0].TraceId) &&
		spanAttributes(s)["capstan.revision"] == spanAttributes(sync)["capstan.revision"]
}

func spanAttributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes {
		out[kv.Key] = kv.Value.GetStringValue()
	}
	return out
}

// untraced checks that no trace holds a text.
func (p *play) untraced(args []string) (string, error) {
	if len(args) != 1 || p.collector == nil {
		return "", errUsage
	}
	p.collector.mu.Lock()
	defer p.collector.mu.Unlock()
	if p.collector.raw.Len() == 0 {
		return "", errors.New("nothing was traced")
	}
	if strings.Contains(p.collector.raw.String(), args[0]) {
		return "", fmt.Errorf("the traces hold %s", args[0])
	}
	return "", nil
}
