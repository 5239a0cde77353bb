package apply_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// serveWidgets is an API server that serves Widgets at v1 alone. It notes what
// it is told to delete.
func serveWidgets(t *testing.T) (*rest.Config, chan string) {
	t.Helper()
	deleted := make(chan string, 10)
	version := map[string]any{"groupVersion": "example.com/v1", "version": "v1"}
	answers := map[string]any{
		"/api":    map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
		"/api/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{}},
		"/apis": map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{
			map[string]any{"name": "example.com", "versions": []any{version}, "preferredVersion": version},
		}},
		"/apis/example.com/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "example.com/v1", "resources": []any{
			map[string]any{"name": "widgets", "singularName": "widget", "kind": "Widget", "namespaced": true, "verbs": []string{"delete", "get"}},
		}},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, ok := answers[r.URL.Path]
		switch {
		case r.Method == http.MethodDelete:
			deleted <- r.URL.Path
			answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
		}
		_ = json.NewEncoder(w).Encode(answer) // the client notices
	}))
	t.Cleanup(srv.Close)
	return &rest.Config{Host: srv.URL, QPS: -1}, deleted
}

func TestAnObjectWhoseVersionIsServedNoMoreIsPrunedAllTheSame(t *testing.T) {
	cfg, deleted := serveWidgets(t)
	client, err := apply.New(cfg, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	item := func(kind string) inventory.Item {
		return inventory.Item{UID: "u", Ref: fleet.ObjectRef{Group: "example.com", Version: "v1alpha1", Kind: kind, Namespace: "shop", Name: "one"}}
	}
	app := fleet.AppName{Namespace: "capstan-system", Name: "web"}
	gone, _, err := client.Prune(t.Context(), app, []inventory.Item{item("Widget"), item("Gadget")})
	if err != nil || len(gone) != 2 {
		t.Errorf("gone %v: %v", gone, err)
	}
	select {
	case got := <-deleted:
		if got != "/apis/example.com/v1/namespaces/shop/widgets/one" {
			t.Errorf("deleted %s", got)
		}
	default:
		t.Error("it was forgotten, and is there still")
	}
}

// What goes at once costs one request, and what takes its time one more.
func TestWhatIsPrunedAndNotGoneIsNamedWithWhatHoldsIt(t *testing.T) {
	api, client := serveKept(t)
	const quick, slow = "/api/v1/namespaces/shop/configmaps/quick", "/apis/apps/v1/namespaces/shop/deployments/slow"
	api.put(quick, "q", web, inventory.FieldManager)
	api.put(slow, "s", web, inventory.FieldManager)
	api.held[slow] = true
	items := []inventory.Item{item("", "ConfigMap", "shop", "quick", "q"), item("apps", "Deployment", "shop", "slow", "s"), item("", "ConfigMap", "shop", "gone", "g")}
	gone, still, err := client.Prune(t.Context(), web, items)
	if err != nil || len(gone) != 2 || len(still) != 1 || still[0].UID != "s" || still[0].String() != "Deployment.apps shop/slow (finalizers: [foregroundDeletion])" {
		t.Fatalf("gone %v, still there %v, %v", gone, still, err)
	}
	slices.Sort(api.asked)
	if want := []string{"DELETE /api/v1/namespaces/shop/configmaps/gone", "DELETE " + quick, "DELETE " + slow, "GET " + slow}; !slices.Equal(api.asked, want) {
		t.Errorf("asked %q", api.asked)
	}
	for _, w := range api.wrote {
		if !strings.Contains(w, `"propagationPolicy":"Background"`) {
			t.Errorf("wrote %s", w)
		}
	}

	api.wrote = nil
	other := item("apps", "Deployment", "shop", "slow", "before")
	gone, still, err = client.StillThere(t.Context(), []inventory.Item{items[1], items[2], other, item("example.com", "Widget", "shop", "web", "w")})
	if err != nil || len(gone) != 3 || len(still) != 1 || still[0].UID != "s" || len(api.wrote) > 0 {
		t.Errorf("gone %v, still there %v, %v; wrote %q", gone, still, err, api.wrote)
	}
}
