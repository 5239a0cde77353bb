package apply_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// serveByUID is an API server with ConfigMaps of these uids, which answers as the real
// one does where an object is sent with its uid (e2e/replaced_test.go).
func serveByUID(t *testing.T, uids map[string]string) *apply.Client {
	t.Helper()
	cfg := serveConfigMap(t, "")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPatch {
			http.Redirect(w, r, cfg.Host+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		var sent struct{ Metadata struct{ UID string } }
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		name, dryRun := path.Base(r.URL.Path), r.URL.Query().Get("dryRun") != ""
		uid, there := uids[name]
		refuse := func(code int, reason, field string) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(map[string]any{
				"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "it is refused",
				"details": map[string]any{"name": name, "kind": "configmaps", "causes": []any{map[string]any{"reason": "FieldValueInvalid", "field": field}}},
			})
		}
		switch given := sent.Metadata.UID; {
		case dryRun && given != "":
			t.Errorf("%s is checked by its uid", name)
		case name == "wrong":
			refuse(http.StatusUnprocessableEntity, "Invalid", "data.a")
		case given != "" && !there:
			refuse(http.StatusConflict, "Conflict", "")
		case given != "" && given != uid:
			refuse(http.StatusUnprocessableEntity, "Invalid", "metadata.uid")
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": name, "namespace": "shop", "uid": "u"}})
		}
	}))
	t.Cleanup(srv.Close)
	client, err := apply.New(&rest.Config{Host: srv.URL, QPS: -1}, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAnObjectIsChangedByTheUIDThatItIsKnownBy(t *testing.T) {
	client := serveByUID(t, map[string]string{"known": "u", "wrong": "u", "taken": "somebody's"})
	var objects []unit.Object
	var owned []inventory.Item
	for _, name := range []string{"known", "gone", "taken", "wrong", "remade", "foreign", "new"} {
		ref := fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: name}
		objects = append(objects, unit.Object{Ref: ref, JSON: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `","namespace":"shop"}}`)})
		if name != "new" {
			owned = append(owned, inventory.Item{Ref: ref, UID: "u", Remade: name == "remade", Foreign: name == "foreign"})
		}
	}
	objects = inventory.ByUID(objects, owned)
	done, err := client.Apply(t.Context(), web, objects)
	var names []string
	for _, ref := range apply.Replaced(err) {
		names = append(names, ref.Name)
	}
	if len(done) != 4 || len(names) != 2 || names[0] != "gone" || names[1] != "taken" || !errors.Is(err, apply.ErrReplaced) {
		t.Errorf("%d done, replaced %v, %v", len(done), names, err)
	}
	if err := client.Check(t.Context(), web, objects[:3]); err != nil {
		t.Errorf("checked: %v", err)
	}
	if _, err := client.Heal(t.Context(), web, objects[1], nil); len(apply.Replaced(err)) != 1 {
		t.Errorf("healed: %v", err)
	}
	if got := apply.Replaced(errors.New("of another kind")); got != nil {
		t.Errorf("replaced: %v", got)
	}
}
