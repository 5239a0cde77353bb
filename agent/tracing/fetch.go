package tracing

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Fetch is a look at a repository.
type Fetch struct {
	Repository, Follows string         // without credentials
	Revision            fleet.Revision // "": none could be read
	Began               time.Time
	Took                time.Duration
	Failed              bool
}

// brought is the span in which a revision came.
type brought struct {
	revision fleet.Revision
	span     trace.SpanContext
}

// maxBrought bounds the fetches that are remembered: those of as many repositories
// as move while an app waits for its turn.
const maxBrought = 1000

// Fetched makes the trace of a look at a repository that has ended. The syncs of
// what it brought are linked to it.
func (t *Tracer) Fetched(f Fetch) {
	attributes := []attribute.KeyValue{attribute.String("capstan.repository", f.Repository), attribute.String("capstan.follows", f.Follows)}
	if f.Revision != "" {
		attributes = append(attributes, revision(f.Revision))
	}
	_, span := t.tracer.Start(context.Background(), "fetch", trace.WithTimestamp(f.Began), trace.WithNewRoot(), trace.WithAttributes(attributes...))
	end(span, f.Failed, trace.WithTimestamp(f.Began.Add(f.Took)))
	if f.Failed || f.Revision == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fetches = append(t.fetches, brought{f.Revision, span.SpanContext()})
	t.fetches = slices.Delete(t.fetches, 0, max(0, len(t.fetches)-maxBrought))
}

// cause links to the fetch that brought a revision, if it is known.
func (t *Tracer) cause(r fleet.Revision) []trace.Link {
	if r == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range slices.Backward(t.fetches) {
		if f.revision == r {
			return []trace.Link{{SpanContext: f.span}}
		}
	}
	return nil
}
