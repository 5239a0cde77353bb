package apply_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// guardedAPI is an API server that knows ConfigMaps and ClusterRoles, and notes as
// whom it is asked.
type guardedAPI struct {
	mu          sync.Mutex
	as          map[string]int // requests about objects, by whom they are sent as
	discoveries int
	connections int
	refuse      func(user, path string) string // "": it is let through
}

func serveGuarded(t *testing.T) (*guardedAPI, *rest.Config) {
	t.Helper()
	g := &guardedAPI{as: map[string]int{}, refuse: func(string, string) string { return "" }}
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			g.mu.Lock()
			g.connections++
			g.mu.Unlock()
		}
	}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return g, &rest.Config{Host: srv.URL, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (g *guardedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	kind := func(plural, kind string, namespaced bool) map[string]any {
		return map[string]any{"name": plural, "singularName": strings.ToLower(kind), "kind": kind, "namespaced": namespaced, "verbs": []string{"get", "patch"}}
	}
	version := map[string]any{"groupVersion": "rbac.authorization.k8s.io/v1", "version": "v1"}
	discovery := map[string]any{
		"/api":    map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
		"/api/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{kind("configmaps", "ConfigMap", true), kind("secrets", "Secret", true)}},
		"/apis": map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{
			map[string]any{"name": "rbac.authorization.k8s.io", "versions": []any{version}, "preferredVersion": version},
		}},
		"/apis/rbac.authorization.k8s.io/v1": map[string]any{
			"kind": "APIResourceList", "groupVersion": "rbac.authorization.k8s.io/v1", "resources": []any{kind("clusterroles", "ClusterRole", false)},
		},
	}
	if answer, ok := discovery[r.URL.Path]; ok {
		g.discoveries++
		_ = json.NewEncoder(w).Encode(answer) // the client notices
		return
	}
	user := r.Header.Get("Impersonate-User")
	if len(r.Header.Values("Impersonate-Group")) > 0 {
		user += " in groups"
	}
	g.as[user]++
	if why := g.refuse(user, r.URL.Path); why != "" {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": why})
		return
	}
	_, _ = fmt.Fprint(w, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop","uid":"u"}}`)
}

func configMapNamed(name string) unit.Object {
	return unit.Object{
		Ref:  fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: name},
		JSON: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"shop"}}`, name),
	}
}

var web = fleet.AppName{Namespace: "shop", Name: "web"}

func TestRequestsGoOutAsTheServiceAccountOverTheSameConnections(t *testing.T) {
	api, cfg := serveGuarded(t)
	client, err := apply.New(cfg, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	const apps = 400 // more than are kept
	for i := range apps {
		account := fmt.Sprint("deployer-", i)
		if _, err := client.As(web, account).Apply(t.Context(), web, []unit.Object{configMapNamed("a")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.As(web, "").Apply(t.Context(), web, []unit.Object{configMapNamed("a")}); err != nil {
		t.Fatal(err)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	for _, who := range []string{"", "system:serviceaccount:shop:deployer-0", "system:serviceaccount:shop:deployer-399"} {
		if api.as[who] != 1 {
			t.Errorf("%d requests as %q", api.as[who], who)
		}
	}
	if len(api.as) != apps+1 {
		t.Errorf("as %d people", len(api.as))
	}
	if api.discoveries > 4 {
		t.Errorf("the API server was asked %d times what kinds it has", api.discoveries)
	}
	if api.connections > 2 {
		t.Errorf("%d connections were made", api.connections)
	}
}

func TestARefusalSaysWhoMayNotDoWhatAndHowToLetThem(t *testing.T) {
	const (
		agent    = `User "system:serviceaccount:capstan-system:capstan-agent"`
		deployer = `User "system:serviceaccount:shop:deployer"`
	)
	secret := unit.Object{
		Ref:  fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "s"},
		JSON: []byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"shop"}}`),
	}
	role := unit.Object{
		Ref:  fleet.ObjectRef{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole", Name: "wide"},
		JSON: []byte(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"wide"}}`),
	}
	for name, c := range map[string]struct {
		account string
		refuse  string
		objects []unit.Object
		errors  []string
		hints   []string
	}{
		"a right that is missing": {
			"deployer", deployer + ` cannot patch resource "configmaps" in API group "" in the namespace "shop"`,
			[]unit.Object{configMapNamed("a")},
			[]string{"ConfigMap shop/a: ServiceAccount shop/deployer, which App shop/web is applied as, may not patch configmaps in namespace shop"},
			[]string{"kubectl -n shop create role capstan-configmaps --verb=get,create,patch,delete --resource=configmaps && kubectl -n shop create rolebinding capstan-configmaps --role=capstan-configmaps --serviceaccount=shop:deployer"},
		},
		"of a Secret": {
			"deployer", deployer + ` cannot get resource "secrets" in API group "" in the namespace "shop"`,
			[]unit.Object{secret},
			[]string{"Secret shop/s: ServiceAccount shop/deployer, which App shop/web is applied as, may not get secrets in namespace shop"},
			[]string{"--resource=secrets"},
		},
		"in the whole cluster": {
			"deployer", deployer + ` cannot create resource "clusterroles" in API group "rbac.authorization.k8s.io" at the cluster scope`,
			[]unit.Object{role},
			[]string{"ClusterRole.rbac.authorization.k8s.io wide: ServiceAccount shop/deployer", "may not create clusterroles.rbac.authorization.k8s.io in the whole cluster"},
			[]string{"kubectl create clusterrole capstan-clusterroles.rbac.authorization.k8s.io --verb=get,create,patch,delete,update --resource=clusterroles.rbac.authorization.k8s.io", "--clusterrole=", "kubectl create clusterrolebinding"},
		},
		"acting as it": {
			"deployer", agent + ` cannot impersonate resource "serviceaccounts" in API group "" in the namespace "shop"`,
			[]unit.Object{configMapNamed("a")},
			[]string{"the agent may not act as ServiceAccount shop/deployer, which App shop/web is applied as"},
			[]string{"kubectl -n shop create role capstan-impersonate-deployer --verb=impersonate --resource=serviceaccounts --resource-name=deployer && ", "--serviceaccount=capstan-system:capstan-agent"},
		},
		"the agent itself": {
			"", agent + ` cannot patch resource "configmaps" in API group "" in the namespace "shop"`,
			[]unit.Object{configMapNamed("a")},
			[]string{"the agent (system:serviceaccount:capstan-system:capstan-agent) may not patch configmaps in namespace shop"},
			[]string{"--serviceaccount=capstan-system:capstan-agent"},
		},
		"a person's kubeconfig": {
			"", `User "jane" cannot patch resource "configmaps" in API group "" in the namespace "shop"`,
			[]unit.Object{configMapNamed("a")},
			[]string{"the agent (jane) may not patch"},
			[]string{"--user=jane"},
		},
		"two kinds in one hint": {
			"deployer", "",
			[]unit.Object{configMapNamed("a"), secret},
			[]string{"ConfigMap shop/a: ", "Secret shop/s: "},
			[]string{"--resource=configmaps,secrets"},
		},
		"something else": {
			"deployer", `configmaps "a" is forbidden: exceeded quota: small`,
			[]unit.Object{configMapNamed("a")},
			[]string{"ConfigMap shop/a: ", "exceeded quota: small"},
			[]string{"quota"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			api, cfg := serveGuarded(t)
			api.refuse = func(_, path string) string {
				if c.refuse != "" {
					return c.refuse
				}
				resource := strings.Split(path, "/")[5]
				return fmt.Sprintf("%s cannot patch resource %q in API group %q in the namespace %q", deployer, resource, "", "shop")
			}
			client, err := apply.New(cfg, []byte("key"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.As(web, c.account).Apply(t.Context(), web, c.objects)
			if err == nil {
				t.Fatal("it was let through")
			}
			for _, want := range c.errors {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			for _, want := range c.hints {
				if !strings.Contains(fleet.Hint(err), want) {
					t.Errorf("hint %q does not say %q", fleet.Hint(err), want)
				}
			}
		})
	}
}
