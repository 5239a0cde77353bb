// Package tracing tells an OpenTelemetry collector what the agent does: a trace
// for each look at an app in which there was something to do. Its spans have
// names, revisions, digests and counts, and never what is in an object.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Config says where traces go. The environment's own variables
// (OTEL_EXPORTER_OTLP_ENDPOINT and the others that OpenTelemetry names) count too.
type Config struct {
	// Endpoint is a collector's that takes OTLP over HTTP: "http://collector:4318",
	// to which /v1/traces is added. Empty: the environment says, or there are no
	// traces.
	Endpoint string `json:"endpoint,omitempty"`
}

// Validate checks the endpoint. The error is fleet.ErrInvalid.
func (c Config) Validate() error {
	if c.Endpoint == "" {
		return nil
	}
	_, err := parseEndpoint("tracing.endpoint", c.Endpoint)
	return err
}

// On tells whether there are to be traces. lookup reads the environment.
func (c Config) On(lookup func(string) (string, bool)) bool {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if v, ok := lookup(name); ok && v != "" {
			return true
		}
	}
	return c.Endpoint != ""
}

// About is what all traces say of who made them.
type About struct{ Cluster, Version, Instance string }

// Tracer makes the traces. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer

	mu      sync.Mutex
	fetches []brought                           // the last of them, the newest last
	last    map[fleet.AppName]trace.SpanContext // whose status was not written since
}

// New makes a Tracer. It connects to nothing: what can't be sent is dropped, and
// the log says so once.
func New(ctx context.Context, cfg Config, a About, log *slog.Logger) (*Tracer, error) {
	send, err := newSender(cfg.Endpoint, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(ctx, send)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "capstan-agent"), attribute.String("service.version", a.Version),
		attribute.String("service.instance.id", a.Instance), attribute.String("k8s.cluster.name", a.Cluster),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t := &Tracer{last: map[fleet.AppName]trace.SpanContext{}}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithResource(about),
		sdktrace.WithBatcher(&spoken{SpanExporter: exporter, log: log}, sdktrace.WithMaxQueueSize(maxQueue)))
	t.tracer = t.provider.Tracer("github.com/capstan-gitops/capstan/agent")
	return t, nil
}

// maxQueue bounds the spans that wait to be sent: those of some thousand apps
// that change at once.
const maxQueue = 8192

// Close sends what waits to be sent, and ends. It takes no longer than ctx.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// spoken says in the log when traces begin to be lost, and when they arrive again.
type spoken struct {
	sdktrace.SpanExporter
	log    *slog.Logger
	failed atomic.Bool
}

func (s *spoken) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	if failed := err != nil; s.failed.Swap(failed) != failed {
		if failed {
			s.log.WarnContext(ctx, "traces can't be sent, and are dropped", "error", err)
		} else {
			s.log.InfoContext(ctx, "traces are sent again")
		}
	}
	return nil // it was said
}
