package apply_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// serveConfigMap is an API server with one ConfigMap, whose change it refuses.
func serveConfigMap(t *testing.T, refusal string) *rest.Config {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer map[string]any
		switch {
		case r.URL.Path == "/api":
			answer = map[string]any{"kind": "APIVersions", "versions": []string{"v1"}}
		case r.URL.Path == "/apis":
			answer = map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{}}
		case r.URL.Path == "/api/v1":
			answer = map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{
				map[string]any{"name": "configmaps", "singularName": "configmap", "kind": "ConfigMap", "namespaced": true, "verbs": []string{"get", "patch"}},
			}}
		case r.Method == http.MethodPatch:
			w.WriteHeader(http.StatusUnprocessableEntity)
			answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422, "message": refusal}
		default:
			answer = map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": "a", "namespace": "shop", "uid": "u"}}
		}
		_ = json.NewEncoder(w).Encode(answer) // the client notices
	}))
	t.Cleanup(srv.Close)
	return &rest.Config{Host: srv.URL, QPS: -1}
}

func TestOnlyWhatIsOursAndImmutableIsToBeRecreated(t *testing.T) {
	ref := fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "a"}
	object := unit.Object{Ref: ref, JSON: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop"}}`)}
	for name, c := range map[string]struct {
		refusal  string
		recreate bool
		owned    []inventory.Item
		want     int
	}{
		"immutable":                        {`data: Forbidden: field is immutable when "immutable" is set`, true, []inventory.Item{{Ref: ref, UID: "u"}}, 1},
		"a cluster IP":                     {`spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`, true, []inventory.Item{{Ref: ref, UID: "u"}}, 1},
		"a value that is called so":        {`data.a: Invalid value: "field is immutable": must be short`, true, []inventory.Item{{Ref: ref, UID: "u"}}, 0},
		"a quote within that value":        {`data.a: Invalid value: "say \"field is immutable": must be short`, true, []inventory.Item{{Ref: ref, UID: "u"}}, 0},
		"not asked for":                    {`data: field is immutable`, false, []inventory.Item{{Ref: ref, UID: "u"}}, 0},
		"another object of that name":      {`data: field is immutable`, true, []inventory.Item{{Ref: ref, UID: "other"}}, 0},
		"not known, and not applied by us": {`data: field is immutable`, true, []inventory.Item{{Ref: ref}}, 0},
		"nothing of the app's":             {`data: field is immutable`, true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := apply.New(serveConfigMap(t, c.refusal), []byte("key"))
			if err != nil {
				t.Fatal(err)
			}
			o := object
			o.Asks.Recreate = c.recreate
			got, err := client.Refused(t.Context(), fleet.AppName{Namespace: "capstan-system", Name: "web"}, []unit.Object{o}, c.owned)
			if err != nil || len(got) != c.want {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
