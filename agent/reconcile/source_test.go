package reconcile_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const shopURL = "https://git.example.com/shop.git"

// fromShop is an App from a repository of its own.
func fromShop(name string) string {
	return strings.Replace(rootOf(name), "source: {", "source: {repoURL: '"+shopURL+"', ref: {branch: next}, secretRef: {name: shop-git}, ", 1)
}

// newShop is a spoke with an App from its own repository, and one from another.
func newShop(t *testing.T) (*spoke, *repository) {
	t.Helper()
	s := newSpoke(t, map[string]string{"root": fromShop("web") + "\n---\n" + rootOf("db"), "db": configMaps("1", "db")}, nil)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	shop := &repository{files: map[string]string{"web": configMaps("1", "web")}}
	s.others[shopURL] = shop
	s.start()
	s.synced("web")
	s.synced("db")
	return s, shop
}

func (s *spoke) pushTo(r *repository, files map[string]string) {
	r.mu.Lock()
	maps.Copy(r.files, files)
	r.mu.Unlock()
	s.engine.GitPushed(fleet.Push{RepoURL: shopURL})
}

func TestAnAppIsReadFromTheRepositoryItNames(t *testing.T) {
	s, shop := newShop(t)
	from, _ := s.sources.used(app("web"))
	want := unit.Source{RepoURL: shopURL, Ref: unit.Ref{Branch: "next"}, Secret: unit.SecretName{Namespace: "capstan-system", Name: "shop-git"}}
	if from != want {
		t.Errorf("it is read from %+v", from)
	}
	s.repo.mu.Lock()
	before := len(s.repo.renders)
	s.repo.mu.Unlock()
	s.pushTo(shop, map[string]string{"web": configMaps("2", "web")})
	s.until("web", "at the new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	if got := s.repo.renders[before:]; !slices.Equal(got, []string{"web"}) {
		t.Errorf("rendered %v for a commit of another repository", got)
	}
}

func TestTheDigestSaysWhichRepository(t *testing.T) {
	s, shop := newShop(t)
	before := s.synced("web").Digest
	s.push(map[string]string{"web": shop.files["web"], "root": rootOf("web", "db")})
	s.until("web", "of another digest", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest != before })
	if _, uses := s.sources.used(app("web")); uses {
		t.Error("the other repository is still followed")
	}
}

func TestARepositoryThatFailsIsItsAppsTroubleAlone(t *testing.T) {
	s, shop := newShop(t)
	running := s.cluster.content(configMap("web"))
	shop.fail(fleet.WithHint(fleet.Unavailable("no route to host"), "is it up?"))
	s.engine.GitPushed(fleet.Push{RepoURL: shopURL})
	got := s.because("web", "SourceFailed")
	if got.Sync != fleet.SyncUnknown || got.Health != fleet.Healthy || !strings.Contains(got.Message, "no route") || got.Hint != "is it up?" {
		t.Errorf("got %+v", got)
	}
	s.push(map[string]string{"db": configMaps("2", "db")})
	s.until("db", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("db")), `"2"`) })
	s.synced("root")
	s.cluster.edit(configMap("web"), strings.Replace(running, `"1"`, `"7"`, 1))
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == running })

	shop.fail(nil)
	s.pushTo(shop, map[string]string{"web": configMaps("3", "web")})
	s.until("web", "well again", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"3"`)
	})
}

func TestAfterARestartWithItsRepositoryAwayAnAppKeepsWhatRuns(t *testing.T) {
	s, shop := newShop(t)
	running := s.cluster.content(configMap("web"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	shop.fail(errors.New("no route to host"))
	s.start()
	if got := s.because("web", "SourceFailed"); got.Digest == fleet.NoDigest {
		t.Errorf("got %+v", got)
	}
	s.synced("db")
	if got := s.cluster.content(configMap("web")); got != running {
		t.Errorf("what runs was touched: %s", got)
	}
	shop.fail(nil)
	s.engine.GitPushed(fleet.Push{RepoURL: shopURL})
	s.synced("web")
}

func TestAnAppsBranchThatIsHeldWaitsForItsOwnConfirmation(t *testing.T) {
	s, shop := newShop(t)
	shop.fail(&unit.RewoundError{Ref: "next", From: "a", To: "b"})
	s.pushTo(shop, map[string]string{"web": configMaps("2", "web")})
	if got := s.because("web", "SourceFailed"); !strings.Contains(got.Hint, "annotate --overwrite app web capstan.dev/confirm-prune=a..b") {
		t.Errorf("hint %q", got.Hint)
	}
	s.told.mu.Lock()
	s.told.confirmed[app("web")] = "a..b"
	s.told.mu.Unlock()
	s.engine.AppSeen(app("web"))
	s.until("web", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	s.synced("web")
}

func TestAnAppThatLeavesHasItsRepositoryForgotten(t *testing.T) {
	s, _ := newShop(t)
	s.push(map[string]string{"root": rootOf("db")})
	s.gone("web")
	if _, uses := s.sources.used(app("web")); uses {
		t.Error("its repository is still followed")
	}
}

func TestWhatAnAppIsReadFromIsShownOnIt(t *testing.T) {
	s, shop := newShop(t)
	for name, url := range map[string]string{"web": shopURL, "root": ownURL} {
		got := s.until(name, "showing its source", func(a fleet.AppStatus) bool { return a.Source != nil && a.Sync == fleet.Synced })
		if *got.Source != (fleet.SourceStatus{URL: url, Follows: "branch main"}) {
			t.Errorf("%s: %+v", name, got.Source)
		}
	}
	if got := s.synced("db"); got.Source != nil {
		t.Errorf("an App of the agent's own repository shows %+v", got.Source)
	}
	shop.fail(errors.New("no route to host"))
	s.engine.GitPushed(fleet.Push{RepoURL: shopURL})
	if got := s.because("web", "SourceFailed"); got.Source == nil || !got.Source.Failing {
		t.Errorf("got %+v", got.Source)
	}
	if all := s.engine.Report().Sources; len(all) != 2 || all[0].URL != ownURL || !all[1].Failing {
		t.Errorf("reported %+v", all)
	}
}
