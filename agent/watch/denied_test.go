package watch_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// serveSecrets is an API server that lets nobody list Secrets until granted says so.
func serveSecrets(t *testing.T, granted *atomic.Bool) *rest.Config {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		q := r.URL.Query()
		switch {
		case !granted.Load():
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]any{ // the client notices
				"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
				"message": `secrets is forbidden: User "system:serviceaccount:gitops:agent" cannot list resource "secrets" in API group "" at the cluster scope`,
			})
		case q.Get("sendInitialEvents") == "true":
			w.WriteHeader(http.StatusBadRequest) // as servers that can't
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 400})
		case q.Get("watch") == "true":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "SecretList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}})
		}
	}))
	t.Cleanup(srv.Close)
	return &rest.Config{Host: srv.URL, QPS: -1}
}

func TestAKindThatMayNotBeSeenSaysSoAtOnceAndIsSeenWhenItMay(t *testing.T) {
	var granted atomic.Bool
	cfg := serveSecrets(t, &granted)
	told := make(chan watch.Event, 10)
	w, err := watch.New(cfg, []byte("key"), nil, func(e watch.Event) { told <- e }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer w.Wait()
	defer cancel()
	ref := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "s"}
	w.Watch(ctx, ref, schema.GroupVersionResource{Version: "v1", Resource: "secrets"})

	err = w.Synced(ctx, ref)
	if !apierrors.IsForbidden(err) || err.Error() != "the agent may not list and watch secrets" {
		t.Fatalf("got %v", err)
	}
	const grant = "kubectl create clusterrolebinding capstan-agent-watch-secrets --clusterrole=capstan-agent-watch-secrets --serviceaccount=gitops:agent"
	if err := w.Blind(ref); err != nil {
		t.Errorf("nobody was told, and who asks hears %v", err)
	}
	if e := <-told; !e.Blind {
		t.Errorf("told is %+v", e)
	}
	if h := fleet.Hint(w.Blind(ref)); !strings.Contains(h, "--verb=list,watch --resource=secrets") || !strings.HasSuffix(h, grant) {
		t.Errorf("hint %q", h)
	}
	granted.Store(true)
	for err := w.Synced(ctx, ref); err != nil; err = w.Synced(ctx, ref) {
		if !apierrors.IsForbidden(err) {
			t.Fatal(err)
		}
	}
	if err := w.Blind(ref); err != nil {
		t.Errorf("it is blind still: %v", err)
	}
}
