package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestGitCanNotChangeWhatGuardsTheCluster(t *testing.T) {
	for _, own := range []string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: capstan-agent, namespace: capstan-system}",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: capstan-system}",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: capstan-agent-apps}",
		"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: apps.capstan.dev}",
	} {
		kind := strings.Fields(own)[3]
		for _, from := range []string{"root", "web"} {
			t.Run(kind+" from "+from, func(t *testing.T) {
				files := webAndRoot()
				files[from] += "\n---\n" + own
				s := newSpoke(t, files, nil)
				got := s.because(from, "ApplyFailed")
				if !strings.Contains(got.Message, "agent's own") {
					t.Errorf("got %q", got.Message)
				}
				s.cluster.mu.Lock()
				defer s.cluster.mu.Unlock()
				for ref := range s.cluster.objects {
					if ref.Kind == kind && ref.Name != "web" {
						t.Errorf("%s was applied", ref)
					}
				}
			})
		}
	}
}

func TestASelectorMistypedInGitTakesNothingAwayByItself(t *testing.T) {
	var names []string
	files := map[string]string{}
	for i := range 5 {
		name := fmt.Sprintf("app-%d", i)
		names = append(names, name)
		files[name] = configMaps("1", name)
	}
	root := func(env string) string {
		var docs []string
		for _, n := range names {
			docs = append(docs, forEnv(n, env))
		}
		return strings.Join(docs, "\n---\n")
	}
	files["root"] = root("dev")
	s := newSpoke(t, files, func(c *reconcile.Config) {
		c.Declared = map[string]string{"env": "dev"}
		c.Guard = inventory.Guard{MaxObjects: 3, MaxPercent: 50}
	})
	for _, n := range names {
		s.synced(n)
	}
	s.push(map[string]string{"root": root("dve")})
	waiting := s.because("root", "WaitsForConfirmation")
	if waiting.Pending == nil || waiting.Pending.Summary.Prune != 5 {
		t.Fatalf("got %+v", waiting)
	}
	// It waits however often the root is looked at, and another commit does not let it through.
	s.push(map[string]string{"app-0": configMaps("2", "app-0")})
	s.push(map[string]string{"root": root("dev")})
	s.synced("root")
	for _, n := range names {
		s.synced(n)
		if s.cluster.content(configMap(n)) == "" {
			t.Errorf("%s was taken away by a typing mistake", n)
		}
	}
}

func TestAnAppThatKeepsItsObjectsStillNeedsApprovalToGo(t *testing.T) {
	key, line := newKey(t, alice)
	keeps := strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {prune: false}, ", 1)
	s := guarded(t, map[string]string{"root": keeps + "\n---\n" + rootOf("db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, line, nil)
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	s.synced("web")
	s.push(map[string]string{"root": rootOf("db")})
	s.until("web", "waiting to go", func(a fleet.AppStatus) bool { return a.Pending != nil && a.Pending.Action == fleet.ActionRemove })
	s.bring(s.sign(key, s.statement("web")))
	s.gone("web")
	if s.cluster.content(configMap("web")) == "" {
		t.Error("sync.prune is false, and its object was deleted")
	}
}
