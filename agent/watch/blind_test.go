package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// guardedServer is an API server that lets nobody list or watch until it is told to.
type guardedServer struct{ open atomic.Bool }

func (s *guardedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var answer any = map[string]any{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}}
	switch {
	case !s.open.Load():
		w.WriteHeader(http.StatusForbidden)
		answer = apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "", errors.New(`User "agent" cannot list`)).ErrStatus
	case r.URL.Query().Get("watch") != "":
		if r.URL.Query().Get("sendInitialEvents") != "" {
			w.WriteHeader(http.StatusBadRequest) // as one that knows no streamed lists
			answer = metav1.Status{Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonInvalid, Message: "sendInitialEvents: forbidden"}
			break
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // who asked is gone then
}

func TestAKindThatMayNotBeSeenIsSaidAtOnceAndSeenLater(t *testing.T) {
	api := &guardedServer{}
	server := httptest.NewServer(api)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	w, err := watch.New(&rest.Config{Host: server.URL, QPS: -1}, []byte("key"), func(u *unstructured.Unstructured) health.State { return health.Of(u) }, func(watch.Event) {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Wait()
	defer cancel()
	kind := fleet.ObjectRef{Version: "v1", Kind: "ConfigMap"}
	w.Watch(ctx, kind, schema.GroupVersionResource{Version: "v1", Resource: "configmaps"})

	// Long before the context ends, as whoever waits holds a worker.
	if err := w.Synced(ctx, kind); !apierrors.IsForbidden(err) {
		t.Errorf("waited for what may not be seen: %v", err)
	}
	if err := w.Settling(); err != nil {
		t.Errorf("what may not be seen holds up the agent: %v", err)
	}
	api.open.Store(true)
	wait, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for err = w.Synced(wait, kind); apierrors.IsForbidden(err); err = w.Synced(wait, kind) {
		select { // the next try comes by itself
		case <-wait.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err != nil {
		t.Error(err)
	}
}
