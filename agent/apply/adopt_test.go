package apply_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// manager is an entry of an object's managed fields.
type manager struct{ name, operation, subresource, field string }

func (m manager) entry() map[string]any {
	e := map[string]any{
		"manager": m.name, "operation": m.operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
		"fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:data": map[string]any{"f:" + m.field: map[string]any{}}},
	}
	if m.subresource != "" {
		e["subresource"] = m.subresource
	}
	return e
}

var ours = manager{inventory.FieldManager, "Apply", "", "level"}

// heldAPI is an API server with one ConfigMap that others hold fields of.
type heldAPI struct {
	mu    sync.Mutex
	live  map[string]any // nil: it is not there before the first apply
	wrote []string       // content type, and the body
	moved bool           // the object moves whenever it was read
}

func serveHeld(t *testing.T, holders ...manager) (*heldAPI, *apply.Client) {
	t.Helper()
	var entries []any
	for _, m := range append(holders, ours) {
		entries = append(entries, m.entry())
	}
	h := &heldAPI{live: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"level": "1"},
		"metadata": map[string]any{"name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "managedFields": entries},
	}}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	client, err := apply.New(&rest.Config{Host: srv.URL, QPS: -1}, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return h, client
}

func (h *heldAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answers := map[string]any{
		"/api": map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
		"/api/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{
			map[string]any{"name": "configmaps", "singularName": "configmap", "kind": "ConfigMap", "namespaced": true, "verbs": []string{"get", "patch"}},
		}},
		"/apis": map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{}},
	}
	answer, ok := answers[r.URL.Path]
	if !ok {
		answer = h.live
	}
	if r.Method == http.MethodPatch {
		body, _ := io.ReadAll(r.Body) // empty then
		dry := ""
		if r.URL.Query().Get("dryRun") != "" {
			dry = "dry "
		}
		h.wrote = append(h.wrote, dry+r.Header.Get("Content-Type")+" "+string(body))
		if h.moved && strings.Contains(r.Header.Get("Content-Type"), "json-patch") {
			w.WriteHeader(http.StatusConflict)
			answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409, "message": "the object has been modified"}
		}
	}
	_ = json.NewEncoder(w).Encode(answer) // the client notices
}

func adoptable() unit.Object {
	return unit.Object{
		Ref:  fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "a"},
		JSON: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop"},"data":{"level":"1"}}`),
		Asks: unit.Asks{Adopt: true},
	}
}

func TestWhatTheToolBeforeUsHeldIsTakenOverAndNothingElse(t *testing.T) {
	kubectl := manager{"kubectl-client-side-apply", "Update", "", "old"}
	argo := manager{"argocd-controller", "Apply", "", "old"}
	flux := manager{"kustomize-controller", "Apply", "", "old"}
	helm := manager{"helm", "Update", "", "old"}
	scaler := manager{"horizontal-pod-autoscaler", "Update", "", "replicas"}
	status := manager{"kubectl", "Update", "status", "phase"}
	for name, c := range map[string]struct {
		holders []manager
		known   bool // it is ours already
		taken   []manager
	}{
		"nobody had it":            {nil, false, nil},
		"kubectl":                  {[]manager{kubectl}, false, []manager{kubectl}},
		"Argo CD":                  {[]manager{argo}, false, []manager{argo}},
		"Flux":                     {[]manager{flux}, false, []manager{flux}},
		"Helm, and then a person":  {[]manager{helm, kubectl}, false, []manager{helm, kubectl}},
		"an autoscaler":            {[]manager{scaler}, false, nil},
		"kubectl and a scaler":     {[]manager{kubectl, scaler}, false, []manager{kubectl}},
		"a status":                 {[]manager{status}, false, nil},
		"an object that is ours":   {[]manager{kubectl}, true, nil},
		"whoever came before that": {[]manager{{"before-first-apply", "Update", "", "old"}}, false, []manager{{"before-first-apply", "Update", "", "old"}}},
	} {
		t.Run(name, func(t *testing.T) {
			api, client := serveHeld(t, c.holders...)
			o := adoptable()
			o.Asks.Adopt = !c.known
			if _, err := client.Apply(t.Context(), web, []unit.Object{o}); err != nil {
				t.Fatal(err)
			}
			if len(c.taken) == 0 {
				if len(api.wrote) != 1 {
					t.Errorf("nothing was to be taken over, and there were %d writes: %q", len(api.wrote), api.wrote)
				}
				return
			}
			if len(api.wrote) != 3 || !strings.HasPrefix(api.wrote[2], "application/apply-patch+yaml") {
				t.Fatalf("wrote %q", api.wrote)
			}
			takes(t, api.wrote[1], c.holders, c.taken)
		})
	}
}

// takes reads the patch that takes fields over: those of taken are ours then, those
// of others stay theirs, and it is for the version that was read.
func takes(t *testing.T, wrote string, holders, taken []manager) {
	t.Helper()
	body, ok := strings.CutPrefix(wrote, "application/json-patch+json ")
	var ops []struct {
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal([]byte(body), &ops); !ok || err != nil || len(ops) != 2 {
		t.Fatalf("%s: %v", wrote, err)
	}
	if ops[1].Path != "/metadata/resourceVersion" || string(ops[1].Value) != `"7"` {
		t.Errorf("it is for any version: %s", body)
	}
	var entries []struct {
		Manager  string          `json:"manager"`
		FieldsV1 json.RawMessage `json:"fieldsV1"`
	}
	if err := json.Unmarshal(ops[0].Value, &entries); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for _, e := range entries {
		fields[e.Manager] += string(e.FieldsV1)
	}
	isTaken := map[string]bool{}
	for _, m := range taken {
		isTaken[m.name] = true
		if _, there := fields[m.name]; there {
			t.Errorf("%s holds something still", m.name)
		}
		if !strings.Contains(fields[inventory.FieldManager], "f:"+m.field) {
			t.Errorf("what %s held is not ours: %s", m.name, fields[inventory.FieldManager])
		}
	}
	for _, m := range holders {
		if !isTaken[m.name] && !strings.Contains(fields[m.name], "f:"+m.field) {
			t.Errorf("%s lost what it held", m.name)
		}
	}
}

func TestAnObjectThatMovesWhileItIsAdoptedIsLeftForTheNextTry(t *testing.T) {
	api, client := serveHeld(t, manager{"kubectl-client-side-apply", "Update", "", "old"})
	api.moved = true
	done, err := client.Apply(t.Context(), web, []unit.Object{adoptable()})
	if len(done) != 0 || !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "ConfigMap shop/a") {
		t.Errorf("applied %v: %v", done, err)
	}
	if len(api.wrote) != 2 {
		t.Errorf("it was applied again all the same: %q", api.wrote)
	}
}

func TestAPlanNamesWhoseAnObjectWas(t *testing.T) {
	_, client := serveHeld(t, manager{"kubectl-client-side-apply", "Update", "", "old"}, manager{"helm", "Update", "", "old"})
	for adopt, note := range map[bool]string{true: "kubectl-client-side-apply, helm", false: ""} {
		o := adoptable()
		o.Asks.Adopt = adopt
		changes, err := client.Preview(t.Context(), web, inventory.Delta{Apply: []unit.Object{o}}, []byte("key"))
		if err != nil || len(changes) != 1 {
			t.Fatal(changes, err)
		}
		got := changes[0]
		if (got.Action == fleet.Update) != adopt || !strings.Contains(got.Note, note) || !adopt && got.Note != "" {
			t.Errorf("adopt %v: %s, note %q", adopt, got.Action, got.Note)
		}
	}
}

func TestHealingTakesOverWhatPeopleHoldAndNothingOfOtherTools(t *testing.T) {
	edit, argo := manager{"kubectl-edit", "Update", "", "added"}, manager{"argocd-controller", "Apply", "", "theirs"}
	api, client := serveHeld(t, edit, argo)
	live := &unstructured.Unstructured{Object: api.live}
	if _, err := client.Heal(t.Context(), web, adoptable(), live); err != nil {
		t.Fatal(err)
	}
	if len(api.wrote) != 2 {
		t.Fatalf("wrote %q", api.wrote)
	}
	takes(t, api.wrote[0], []manager{edit, argo}, []manager{edit})
}
