package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Step is a piece of work on an app; what is not known of it is zero.
type Step struct {
	Name     string // of the span
	App      fleet.AppName
	Revision fleet.Revision
	Digest   fleet.Digest
	Path     string
	Objects  int
}

// look is a look at an app: a span of its own as soon as there is something to do.
type look struct {
	app   fleet.AppName
	began time.Time

	mu   sync.Mutex
	span trace.Span // nil: there was nothing to do yet
}

type lookKey struct{}

// Look begins a look at an app. What is done in it gets the context that Look
// returns; the function is called once, when it ends.
func (t *Tracer) Look(ctx context.Context, app fleet.AppName) (context.Context, func(error)) {
	l := &look{app: app, began: time.Now()}
	return context.WithValue(ctx, lookKey{}, l), func(err error) { t.looked(l, err) }
}

func (t *Tracer) looked(l *look, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.span == nil {
		return
	}
	end(l.span, err != nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last[l.app] = l.span.SpanContext()
}

// opened gives the look's span, and tells it what a step knows.
func (t *Tracer) opened(l *look, s Step) trace.Span {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.span == nil {
		_, l.span = t.tracer.Start(context.Background(), "sync", trace.WithTimestamp(l.began), trace.WithNewRoot(),
			trace.WithAttributes(named(l.app)...), trace.WithLinks(t.cause(s.Revision)...))
	}
	if s.Revision != "" {
		l.span.SetAttributes(revision(s.Revision))
	}
	if s.Digest != "" {
		l.span.SetAttributes(digest(s.Digest))
	}
	return l.span
}

// Step begins a step of a look.
func (t *Tracer) Step(ctx context.Context, s Step) (context.Context, func(error)) {
	l, ok := ctx.Value(lookKey{}).(*look)
	if !ok {
		return ctx, func(error) {}
	}
	if parent := t.opened(l, s); !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithSpan(ctx, parent)
	}
	return t.start(ctx, s)
}

// Afterwards begins a step that comes after a look, by somebody else: it belongs
// to the trace of the last one in which there was something to do, if it is the
// first of its kind.
func (t *Tracer) Afterwards(ctx context.Context, s Step) (context.Context, func(error)) {
	t.mu.Lock()
	of, ok := t.last[s.App]
	delete(t.last, s.App)
	t.mu.Unlock()
	if !ok {
		return ctx, func(error) {}
	}
	return t.start(trace.ContextWithRemoteSpanContext(ctx, of), s)
}

func (t *Tracer) start(ctx context.Context, s Step) (context.Context, func(error)) {
	attributes := named(s.App)
	if s.Revision != "" {
		attributes = append(attributes, revision(s.Revision))
	}
	if s.Digest != "" {
		attributes = append(attributes, digest(s.Digest))
	}
	if s.Path != "" {
		attributes = append(attributes, attribute.String("capstan.path", s.Path))
	}
	if s.Objects > 0 {
		attributes = append(attributes, attribute.Int("capstan.objects", s.Objects))
	}
	ctx, span := t.tracer.Start(ctx, s.Name, trace.WithAttributes(attributes...))
	return ctx, func(err error) { end(span, err != nil) }
}

// end ends a span. Why something failed stays where people look for it: an API
// server's words may quote what is in an object.
func end(span trace.Span, failed bool, opts ...trace.SpanEndOption) {
	if failed {
		span.SetStatus(codes.Error, "the App's status says why")
	}
	span.End(opts...)
}

func named(app fleet.AppName) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("capstan.namespace", app.Namespace), attribute.String("capstan.app", app.Name)}
}

func revision(r fleet.Revision) attribute.KeyValue {
	return attribute.String("capstan.revision", string(r))
}

func digest(d fleet.Digest) attribute.KeyValue { return attribute.String("capstan.digest", string(d)) }
