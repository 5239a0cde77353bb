package reconcile_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const workload = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {template: {spec: {containers: [{name: web, image: \"nginx:1.27\"}]}}}\n"

var deployment = fleet.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "web"}

func mirroredAt(t *testing.T, to string) func(*reconcile.Config) {
	t.Helper()
	r, err := images.New(images.Config{Mirrors: []images.Mirror{{From: "docker.io", To: to}}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *reconcile.Config) { c.Images = r }
}

func TestImagesArePulledFromTheMirrorThatTheClusterNames(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db") + "\n---\n" + strings.ReplaceAll(workload, "name: web", "name: own"), "web": workload, "db": configMaps("1", "db")}, mirroredAt(t, "one.example/hub"))
	first := s.synced("web")
	own := deployment
	own.Name = "own"
	s.until("root", "applied", func(fleet.AppStatus) bool { return s.cluster.content(own) != "" })
	for _, ref := range []fleet.ObjectRef{deployment, own} {
		if got := s.cluster.content(ref); !strings.Contains(got, `"one.example/hub/library/nginx:1.27"`) {
			t.Errorf("applied %s", got)
		}
	}

	// Nothing changed in Git; the mirror did.
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	mirroredAt(t, "two.example")(&s.cfg)
	s.start()
	s.until("web", "at the new mirror", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && a.Digest != first.Digest && strings.Contains(s.cluster.content(deployment), `"two.example/library/nginx:1.27"`)
	})
	s.repo.mu.Lock()
	renders := len(s.repo.renders)
	s.repo.mu.Unlock()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.synced("web")
	s.push(map[string]string{"db": configMaps("2", "db")})
	s.until("db", "applied", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("db")), `"2"`) })
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	for _, path := range s.repo.renders[renders:] {
		if path == "web" {
			t.Error("rendered again though neither Git nor the mirrors changed")
		}
	}
}

func TestAPlanShowsTheImageThatIsPulled(t *testing.T) {
	_, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web"), "web": workload}, line, mirroredAt(t, "one.example/hub"))
	s.because("web", "WaitsForApproval")
	signed, err := s.engine.Plan(app("web"))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(signed.Plan); !strings.Contains(got, "one.example/hub/library/nginx:1.27") {
		t.Errorf("the plan does not show the mirror: %s", got)
	}
}

func TestAReportNamesTheImagesThatRun(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": workload, "db": configMaps("1", "db")}, nil)
	if got := s.synced("web").Images; len(got) != 1 || got[0] != "nginx:1.27" {
		t.Errorf("web: %q", got)
	}
	if got := s.synced("db").Images; len(got) != 0 {
		t.Errorf("db: %q", got)
	}
	// They are known after a restart, before anything is rendered.
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	if got := s.synced("web").Images; len(got) != 1 {
		t.Errorf("after a restart: %q", got)
	}
	s.push(map[string]string{"web": strings.ReplaceAll(workload, "1.27", "1.28")})
	s.until("web", "the next image", func(a fleet.AppStatus) bool { return len(a.Images) == 1 && a.Images[0] == "nginx:1.28" })
}
