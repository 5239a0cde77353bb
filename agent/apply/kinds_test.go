package apply_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// cluster is an API server that takes what it is sent, and lists Widgets among
// its kinds when it has been asked for its kinds a few times more.
type cluster struct {
	*rest.Config

	unlisted atomic.Int64 // how often it leaves Widgets out still
	busy     atomic.Int64 // how many changes it is too busy for still
	empty    bool         // nothing of what is looked at is there, no role either
	manager  string       // who holds a field of what was applied beside us
	mu       sync.Mutex
	sent     []string
}

func serveCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	c.Config = &rest.Config{Host: srv.URL, QPS: -1}
	return c
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	group := func(name string) map[string]any {
		version := map[string]any{"groupVersion": name + "/v1", "version": "v1"}
		return map[string]any{"name": name, "versions": []any{version}, "preferredVersion": version}
	}
	kinds := func(version string, resources ...string) map[string]any {
		list := []any{}
		for _, kind := range resources {
			kind, clusterWide := strings.CutSuffix(kind, "!")
			list = append(list, map[string]any{"name": strings.ToLower(kind) + "s", "kind": kind, "namespaced": !clusterWide, "verbs": []string{"get", "patch"}})
		}
		return map[string]any{"kind": "APIResourceList", "groupVersion": version, "resources": list}
	}
	var answer any
	switch path := r.URL.Path; {
	case path == "/api":
		answer = map[string]any{"kind": "APIVersions", "versions": []string{"v1"}}
	case path == "/api/v1":
		answer = kinds("v1", "ConfigMap")
	case path == "/apis":
		groups := []any{group("apiextensions.k8s.io"), group("rbac.authorization.k8s.io")}
		if c.unlisted.Add(-1) < 0 {
			groups = append(groups, group("example.com"))
		}
		answer = map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
	case path == "/apis/apiextensions.k8s.io/v1":
		answer = kinds("apiextensions.k8s.io/v1", "CustomResourceDefinition!")
	case path == "/apis/rbac.authorization.k8s.io/v1":
		answer = kinds("rbac.authorization.k8s.io/v1", "ClusterRole!", "ClusterRoleBinding!", "Role", "RoleBinding")
	case path == "/apis/example.com/v1":
		answer = kinds("example.com/v1", "Widget")
	case r.Method == http.MethodPatch && c.busy.Add(-1) >= 0:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case c.empty && (r.Method == http.MethodGet || strings.Contains(path, "rolebindings/")):
		w.WriteHeader(http.StatusNotFound)
		answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
	case r.Method == http.MethodPatch:
		c.mu.Lock()
		c.sent = append(c.sent, path[strings.LastIndex(path, "/")+1:])
		c.mu.Unlock()
		answer = map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": "a", "uid": "u", "managedFields": []any{
			map[string]any{"manager": c.manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": json.RawMessage(`{"f:data":{"f:a":{}}}`)},
		}}}
	default:
		answer = live
	}
	_ = json.NewEncoder(w).Encode(answer) // the client notices
}

// live has what is looked at, whatever it is.
var live = map[string]any{
	"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": map[string]any{"name": "widgets.example.com", "uid": "u"},
	"spec":   json.RawMessage(`{"group": "example.com", "names": {"kind": "Widget"}, "versions": [{"name": "v1", "served": true}, {"name": "v1alpha1", "served": false}]}`),
	"status": json.RawMessage(`{"conditions": [{"type": "Established", "status": "True"}]}`),
}

func object(t *testing.T, doc string) unit.Object {
	t.Helper()
	var head struct {
		APIVersion, Kind string
		Metadata         struct{ Namespace, Name string }
	}
	if err := json.Unmarshal([]byte(doc), &head); err != nil {
		t.Fatal(err)
	}
	group, version, ok := strings.Cut(head.APIVersion, "/")
	if !ok {
		group, version = "", head.APIVersion
	}
	return unit.Object{JSON: []byte(doc), Ref: fleet.ObjectRef{
		Group: group, Version: version, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name,
	}}
}

const (
	widget = `{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"namespace": "shop", "name": "one"}}`
	crd    = `{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget"}, "versions": [{"name": "v1", "served": true}, {"name": "v1alpha1", "served": false}]}}`
)

// The API server says that a CRD is established somewhat before it lists the kind.
func TestObjectsOfACRDAreSentWhenTheirKindIsListed(t *testing.T) {
	c := serveCluster(t)
	c.unlisted.Store(4)
	client, err := apply.New(c.Config, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	done, err := client.Apply(t.Context(), fleet.AppName{Namespace: "capstan-system", Name: "web"}, []unit.Object{object(t, widget), object(t, crd)})
	if err != nil || len(done) != 2 || !slices.Equal(c.sent, []string{"widgets.example.com", "one"}) {
		t.Errorf("%v, sent %v, %d applied", err, c.sent, len(done))
	}
}

// A CRD may come from another app, or by hand, after the kinds were read.
func TestAKindThatCameLaterIsFound(t *testing.T) {
	c := serveCluster(t)
	c.unlisted.Store(1 << 40)
	client, err := apply.New(c.Config, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	ref := object(t, widget).Ref
	if _, err := client.Resource(ref); err == nil {
		t.Fatal("a kind that is not there was found")
	}
	c.unlisted.Store(0)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if _, err = client.Resource(ref); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

// A binding is refused where its role is not there.
func TestRolesComeBeforeTheirBindings(t *testing.T) {
	c := serveCluster(t)
	client, err := apply.New(c.Config, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	const rbac = `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "`
	_, err = client.Apply(t.Context(), fleet.AppName{Namespace: "capstan-system", Name: "web"}, []unit.Object{
		object(t, rbac+`RoleBinding", "metadata": {"namespace": "shop", "name": "c-in-namespace"}}`),
		object(t, rbac+`ClusterRoleBinding", "metadata": {"name": "b-everywhere"}}`),
		object(t, rbac+`Role", "metadata": {"namespace": "shop", "name": "a-role"}}`),
		object(t, rbac+`ClusterRole", "metadata": {"name": "a-cluster-role"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(c.sent[:2])
	if !slices.Equal(c.sent, []string{"a-cluster-role", "a-role", "b-everywhere", "c-in-namespace"}) {
		t.Errorf("sent in this order: %v", c.sent)
	}
}

// A binding can't be tried while its role is not there: if the role comes along,
// the plan says so, and else that it is missing.
func TestABindingIsPlannedTogetherWithItsRole(t *testing.T) {
	c := serveCluster(t)
	c.empty = true
	client, err := apply.New(c.Config, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	const rbac = `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "`
	app := fleet.AppName{Namespace: "capstan-system", Name: "web"}
	objects := []unit.Object{
		object(t, rbac+`ClusterRole", "metadata": {"name": "reads"}}`),
		object(t, rbac+`ClusterRoleBinding", "metadata": {"name": "all"}, "roleRef": {"kind": "ClusterRole", "name": "reads"}}`),
		object(t, rbac+`Role", "metadata": {"namespace": "shop", "name": "writes"}}`),
		object(t, rbac+`RoleBinding", "metadata": {"namespace": "shop", "name": "some"}, "roleRef": {"kind": "Role", "name": "writes"}}`),
	}
	changes, err := client.Preview(t.Context(), app, inventory.Delta{Apply: objects}, []byte("mask"))
	if err != nil || len(changes) != 4 {
		t.Fatalf("%v, %d changes", err, len(changes))
	}
	for _, ch := range changes {
		if ch.Action != fleet.Create || ch.Unchecked != strings.HasSuffix(ch.Object.Kind, "Binding") {
			t.Errorf("%s: %s, unchecked %t", ch.Object, ch.Action, ch.Unchecked)
		}
	}
	if err := client.Check(t.Context(), app, objects); err != nil {
		t.Error(err)
	}

	elsewhere := object(t, rbac+`RoleBinding", "metadata": {"namespace": "billing", "name": "some"}, "roleRef": {"kind": "Role", "name": "writes"}}`)
	for _, alone := range [][]unit.Object{objects[1:2], {objects[2], elsewhere}} {
		if _, err := client.Preview(t.Context(), app, inventory.Delta{Apply: alone}, []byte("mask")); err == nil {
			t.Errorf("%s was planned without its role", alone[len(alone)-1].Ref)
		}
		if err := client.Check(t.Context(), app, alone); err == nil {
			t.Errorf("%s was checked without its role", alone[len(alone)-1].Ref)
		}
	}
}

// A person may have been quicker than what was put back: what they added then is
// not taken for what was applied, but looked at again.
func TestWhatIsAddedWhileAnObjectIsPutBackIsNotTakenForOurs(t *testing.T) {
	for manager, c := range map[string]struct {
		left  []string
		again bool
	}{
		"kubectl-edit": {nil, true},
		"kubectl-set":  {[]string{"/data/a"}, false},
		"operator":     {nil, false},
	} {
		api := serveCluster(t)
		api.manager = manager
		client, err := apply.New(api.Config, []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		o := object(t, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "a"}}`)
		o.Yield = c.left
		done, err := client.Heal(t.Context(), fleet.AppName{Namespace: "capstan-system", Name: "web"}, o, nil)
		if err != nil || (done.Fingerprint == "") != c.again {
			t.Errorf("%s: %v, fingerprint %q", manager, err, done.Fingerprint)
		}
	}
}
