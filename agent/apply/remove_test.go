package apply_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// keptAPI is an API server that keeps objects by their path, and notes what is
// written. What is deleted goes at once, unless something holds it.
type keptAPI struct {
	mu      sync.Mutex
	objects map[string]map[string]any
	held    map[string]bool
	wrote   []string // method, path, and what of the body matters
	asked   []string // method and path of every request
	moves   int      // so many patches meet an object that moved
}

func serveKept(t *testing.T) (*keptAPI, *apply.Client) {
	t.Helper()
	k := &keptAPI{objects: map[string]map[string]any{}, held: map[string]bool{}}
	srv := httptest.NewServer(k)
	t.Cleanup(srv.Close)
	client, err := apply.New(&rest.Config{Host: srv.URL, QPS: -1}, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return k, client
}

func (k *keptAPI) discovery(path string) (map[string]any, bool) {
	kind := func(plural, kind string, namespaced bool) map[string]any {
		return map[string]any{"name": plural, "singularName": strings.ToLower(kind), "kind": kind, "namespaced": namespaced, "verbs": []string{"get"}}
	}
	version := map[string]any{"groupVersion": "apps/v1", "version": "v1"}
	answer, ok := map[string]map[string]any{
		"/api": {"kind": "APIVersions", "versions": []string{"v1"}},
		"/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{
			kind("configmaps", "ConfigMap", true), kind("namespaces", "Namespace", false),
		}},
		"/apis":         {"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{map[string]any{"name": "apps", "versions": []any{version}, "preferredVersion": version}}},
		"/apis/apps/v1": {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": []any{kind("deployments", "Deployment", true)}},
	}[path]
	return answer, ok
}

func (k *keptAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fail := func(code int, reason string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code})
	}
	if answer, ok := k.discovery(r.URL.Path); ok {
		_ = json.NewEncoder(w).Encode(answer) // the client notices
		return
	}
	body, _ := io.ReadAll(r.Body) // empty then
	k.asked = append(k.asked, r.Method+" "+r.URL.Path)
	o, there := k.objects[r.URL.Path]
	if r.Method != http.MethodGet {
		k.wrote = append(k.wrote, r.Method+" "+r.URL.Path+" "+string(body))
	}
	switch {
	case !there:
		fail(http.StatusNotFound, "NotFound")
	case r.Method == http.MethodDelete && !strings.Contains(string(body), `"uid":"`+uidOf(o)+`"`):
		fail(http.StatusConflict, "Conflict")
	case r.Method == http.MethodDelete && !k.held[r.URL.Path]:
		delete(k.objects, r.URL.Path)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case r.Method == http.MethodDelete:
		o["metadata"].(map[string]any)["finalizers"] = []any{"foregroundDeletion"}
		o["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
		_ = json.NewEncoder(w).Encode(o)
	case r.Method == http.MethodPatch && k.moves > 0:
		k.moves--
		fail(http.StatusConflict, "Conflict")
	default:
		_ = json.NewEncoder(w).Encode(o)
	}
}

func uidOf(o map[string]any) string { return o["metadata"].(map[string]any)["uid"].(string) }

// put has an object there that this agent applied for an app.
func (k *keptAPI) put(path, uid string, app fleet.AppName, managers ...string) {
	var fields []any
	for _, m := range managers {
		fields = append(fields, map[string]any{"manager": m, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{}})
	}
	k.objects[path] = map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{
		"name": "x", "uid": uid, "resourceVersion": "7", "managedFields": fields,
		"labels": map[string]any{inventory.AppLabel: app.Name, inventory.NamespaceLabel: app.Namespace},
	}}
}

func item(group, kind, namespace, name, uid string) inventory.Item {
	return inventory.Item{UID: uid, Ref: fleet.ObjectRef{Group: group, Version: "v1", Kind: kind, Namespace: namespace, Name: name}}
}

func remade(uid string) inventory.Item {
	it := item("", "ConfigMap", "shop", "web", uid)
	it.Remade = true
	return it
}

func TestWhatIsRemovedGoesAfterWhatItOwnsAndBeforeWhatItLivesIn(t *testing.T) {
	api, client := serveKept(t)
	const deployment, config, space = "/apis/apps/v1/namespaces/shop/deployments/web", "/api/v1/namespaces/shop/configmaps/web", "/api/v1/namespaces/shop"
	for path, uid := range map[string]string{deployment: "d", config: "c", space: "n"} {
		api.put(path, uid, web, inventory.FieldManager)
	}
	api.held[deployment] = true
	items := []inventory.Item{item("", "Namespace", "", "shop", "n"), item("apps", "Deployment", "shop", "web", "d"), item("", "ConfigMap", "shop", "web", "c")}

	gone, still, err := client.Remove(t.Context(), web, items)
	if err != nil || len(gone) != 1 || gone[0].Ref.Kind != "ConfigMap" {
		t.Fatalf("gone %v, %v", gone, err)
	}
	if len(still) != 1 || still[0].String() != "Deployment.apps shop/web (finalizers: [foregroundDeletion])" {
		t.Errorf("still there: %v", still)
	}
	for _, w := range api.wrote {
		want := "Background"
		if strings.Contains(w, "deployments") {
			want = "Foreground"
		}
		if !strings.Contains(w, `"propagationPolicy":"`+want+`"`) {
			t.Errorf("%s: want %s", w, want)
		}
		if strings.Contains(w, space+" ") {
			t.Errorf("the namespace went before what is in it: %s", w)
		}
	}
	api.mu.Lock()
	api.held[deployment] = false
	api.mu.Unlock()
	gone, still, err = client.Remove(t.Context(), web, items)
	if err != nil || len(gone) != 3 || len(still) != 0 {
		t.Errorf("gone %v, still there %v, %v", gone, still, err)
	}
}

func TestOnlyWhatIsTheAppsIsRemovedOrReleased(t *testing.T) {
	other := fleet.AppName{Namespace: "shop", Name: "other"}
	const path = "/api/v1/namespaces/shop/configmaps/web"
	for name, c := range map[string]struct {
		item     inventory.Item
		app      fleet.AppName
		managers []string
		removed  bool
		released bool
	}{
		"it is":                      {item("", "ConfigMap", "shop", "web", "u"), web, []string{"capstan"}, true, true},
		"another has the name now":   {item("", "ConfigMap", "shop", "web", "before"), web, []string{"capstan"}, false, false},
		"it may have been made anew": {remade("before"), web, []string{"capstan"}, true, true},
		"it was not, after all":      {remade("u"), web, []string{"capstan"}, true, true},
		"another made it anew":       {remade("before"), web, []string{"kubectl"}, false, true},
		"it may have been applied":   {item("", "ConfigMap", "shop", "web", ""), web, []string{"capstan"}, true, true},
		"it was not applied by us":   {item("", "ConfigMap", "shop", "web", ""), web, []string{"kubectl"}, false, true},
		"it says it is another's":    {item("", "ConfigMap", "shop", "web", ""), other, []string{"capstan"}, false, false},
		"its kind is not there now":  {item("example.com", "Widget", "shop", "web", "u"), web, []string{"capstan"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			api, client := serveKept(t)
			api.put(path, "u", c.app, c.managers...)
			done, err := client.Release(t.Context(), web, []inventory.Item{c.item})
			if err != nil || len(done) != 1 {
				t.Errorf("released %v, %v", done, err)
			}
			if got := slices.ContainsFunc(api.wrote, func(w string) bool { return strings.HasPrefix(w, "PATCH") }); got != c.released {
				t.Errorf("released: %v, want %v", got, c.released)
			}
			gone, still, err := client.Remove(t.Context(), web, []inventory.Item{c.item})
			if err != nil || len(gone) != 1 || len(still) != 0 {
				t.Errorf("gone %v, still there %v, %v", gone, still, err)
			}
			if _, there := api.objects[path]; there == c.removed {
				t.Errorf("it is there: %v", there)
			}
		})
	}
}

func TestAReleasedObjectSaysOfNobodyThatItIsTheirs(t *testing.T) {
	const path = "/api/v1/namespaces/shop/configmaps/web"
	for name, c := range map[string]struct {
		managers []string
		fields   string
	}{
		"others have a part in it": {[]string{"capstan", "horizontal-pod-autoscaler"}, `"manager":"horizontal-pod-autoscaler"`},
		"nobody has":               {[]string{"capstan"}, `"value":[{}]`},
	} {
		t.Run(name, func(t *testing.T) {
			api, client := serveKept(t)
			api.put(path, "u", web, c.managers...)
			api.moves = 2
			if _, err := client.Release(t.Context(), web, []inventory.Item{item("", "ConfigMap", "shop", "web", "u")}); err != nil {
				t.Fatal(err)
			}
			last := api.wrote[len(api.wrote)-1]
			for _, want := range []string{
				`{"op":"remove","path":"/metadata/labels/capstan.dev~1app"}`, `{"op":"remove","path":"/metadata/labels/capstan.dev~1app-namespace"}`,
				`{"op":"replace","path":"/metadata/resourceVersion","value":"7"}`, c.fields,
			} {
				if !strings.Contains(last, want) {
					t.Errorf("%s does not hold %s", last, want)
				}
			}
			if strings.Contains(last, `"manager":"capstan"`) || len(api.wrote) != 3 {
				t.Errorf("wrote %q", api.wrote)
			}
		})
	}
}
