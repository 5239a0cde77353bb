package tracing_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/capstan-gitops/capstan/agent/tracing"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// send has one span sent to whatever the environment names.
func send(t *testing.T) {
	t.Helper()
	tr := tracer(t, tracing.Config{})
	did(t, tr, nil)
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHeadersComeFromTheEnvironment(t *testing.T) {
	got := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://nowhere.invalid")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.URL+"/in")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, X-Scope=fleet")
	send(t)
	if h := <-got; h.Get("Authorization") != "Bearer s3cret" || h.Get("X-Scope") != "fleet" || h.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("%v", h)
	}
}

// A collector that is busy is asked again, when it says; one that refuses is not.
func TestABusyCollectorIsAskedAgain(t *testing.T) {
	for code, want := range map[int]int64{http.StatusServiceUnavailable: 2, http.StatusTooManyRequests: 2, http.StatusBadRequest: 1, http.StatusUnauthorized: 1} {
		var tries atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tries.Add(1) == 1 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(code)
			}
		}))
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
		send(t)
		server.Close()
		if got := tries.Load(); got != want {
			t.Errorf("after %d it was asked %d times, want %d", code, got, want)
		}
	}
}

func TestWhatTheEnvironmentSaysWrongIsNamed(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":       "collector:4317",
		"OTEL_EXPORTER_OTLP_HEADERS":        "s3cret",
		"OTEL_EXPORTER_OTLP_TIMEOUT":        "10s",
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "-1",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":    "send_test.go",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
			t.Setenv(name, value)
			_, err := tracing.New(t.Context(), tracing.Config{}, tracing.About{}, slog.New(slog.DiscardHandler))
			if !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("%v", err)
			}
		})
	}
}
