package reconcile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestARootThatWasNotReadSinceTheStartRemovesNothing(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	// The App object can't be applied, so the root does not note it as applied;
	// the app itself runs.
	db := strings.Replace(rootOf("db"), "path: db", "path: refuse", 1)
	s.push(map[string]string{"root": rootOf("web") + "\n---\n" + db, "refuse": configMaps("1", "db")})
	s.synced("db")
	s.because("root", "ApplyFailed")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.err = errors.New("no route to the Git server")
	s.start()
	s.because("root", "SourceFailed")
	s.disturb("db")
	if s.cluster.content(configMap("db")) == "" {
		t.Error("with Git away, an app was pruned")
	}
}

func TestAnAppIsCarriedOnThoughTheRootBroke(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.files["root"] = "broken: ["
	s.start()
	s.because("root", "RenderFailed")
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "at the new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
}

func TestAnAppWhoseNameCanNotBeReportedIsShownAtTheRoot(t *testing.T) {
	files := map[string]string{"root": rootOf("web", "shop.web"), "web": configMaps("1", "web"), "shop.web": configMaps("1", "other")}
	s := newSpoke(t, files, nil)
	s.synced("web")
	got := s.because("root", "InvalidSpec")
	if !strings.Contains(got.Message, "shop.web") || got.Hint == "" {
		t.Errorf("message %q, hint %q", got.Message, got.Hint)
	}
	for _, a := range s.engine.Statuses() {
		if _, err := fleet.ParseAppName(a.Name().String()); err != nil {
			t.Errorf("it is reported by a name the link can't carry: %v", err)
		}
	}
	s.push(map[string]string{"root": rootOf("web")})
	s.synced("root")
}

func TestTwoAppsOfOneNameAreAnError(t *testing.T) {
	twice := rootOf("web") + "\n---\n" + strings.NewReplacer("name: web", "name: web, namespace: capstan-system", "path: web", "path: other").Replace(rootOf("web"))
	s := newSpoke(t, map[string]string{"root": twice, "web": configMaps("1", "web"), "other": configMaps("1", "other")}, nil)
	if got := s.because("web", "InvalidSpec"); !strings.Contains(got.Message, "twice") {
		t.Errorf("message %q", got.Message)
	}
}
