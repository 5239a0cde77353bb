package record_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/record"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// api has one App, and a watch that tells nothing of what is written to it.
type api struct {
	mu      sync.Mutex
	version int
	status  any
	writes  int
	end     chan struct{}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	if query.Get("watch") == "true" && query.Get("sendInitialEvents") == "" {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-a.end:
		}
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var answer any
	switch {
	case query.Get("watch") == "true": // the list comes by itself
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer = map[string]any{"kind": "Status", "apiVersion": "v1", "code": 422, "reason": "Invalid", "status": "Failure"}
	case r.Method == http.MethodPatch:
		var body struct{ Status any }
		_ = json.NewDecoder(r.Body).Decode(&body)
		a.status, a.version, a.writes = body.Status, a.version+1, a.writes+1
		answer = a.app()
	default:
		answer = map[string]any{"kind": "AppList", "apiVersion": "capstan.dev/v1alpha1", "metadata": map[string]any{"resourceVersion": fmt.Sprint(a.version)}, "items": []any{a.app()}}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *api) app() map[string]any {
	return map[string]any{
		"kind": "App", "apiVersion": "capstan.dev/v1alpha1", "status": a.status,
		"metadata": map[string]any{"namespace": "capstan-system", "name": "web", "uid": "u", "resourceVersion": fmt.Sprint(a.version)},
	}
}

func (a *api) written() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writes
}

func TestAStatusThatIsAsItWasBeforeTheLastOneIsWritten(t *testing.T) {
	a := &api{version: 1, end: make(chan struct{})}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(a.end) })
	seen := make(chan struct{}, 1)
	r, err := record.New(&rest.Config{Host: srv.URL, QPS: -1}, "confirm", func(fleet.AppName) {
		select {
		case seen <- struct{}{}:
		default:
		}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go r.Run(t.Context())
	<-seen
	app := fleet.AppName{Namespace: "capstan-system", Name: "web"}
	for n, c := range []struct {
		health fleet.Health
		writes int
	}{{fleet.Healthy, 1}, {fleet.Healthy, 1}, {fleet.Progressing, 2}, {fleet.Healthy, 3}, {fleet.Healthy, 3}} {
		if err := r.Status(t.Context(), app, v1alpha1.AppStatus{Sync: fleet.Synced, Health: c.health}); err != nil {
			t.Fatal(err)
		}
		if got := a.written(); got != c.writes {
			t.Errorf("%d: %s was told, and %d statuses were written, want %d", n+1, c.health, got, c.writes)
		}
	}
}
