package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// lose has files of a path out of reach; nil: they are back.
func (r *repository) lose(path string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = map[string]error{path: why}
}

func TestFilesThatCannotBeHadAreToldAndTriedAgain(t *testing.T) {
	for _, lost := range []string{"web", "root"} {
		t.Run(lost, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
			was := s.synced("web")
			s.repo.lose(lost, fleet.WithHint(fleet.Unavailable("the server can't be reached"), "is it up?"))
			s.push(map[string]string{"web": configMaps("2", "web"), "root": rootOf("web") + "\n---\n" + configMaps("2", "beside")})
			got := s.because(lost, "ReadFailed")
			if !strings.Contains(got.Message, "the server can't be reached") || got.Hint != "is it up?" {
				t.Errorf("told as %q, hint %q", got.Message, got.Hint)
			}
			if c := s.cluster.content(configMap("web")); lost == "web" && (!strings.Contains(c, `"1"`) || got.Digest != was.Digest) {
				t.Errorf("what ran was touched: %s", c)
			}
			s.repo.lose(lost, nil)
			s.until("web", "at the new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
			s.until(lost, "well again", func(a fleet.AppStatus) bool { return a.Reason != "ReadFailed" })
		})
	}
}

func TestRepositoriesAreToldWhichPathsWillBeRendered(t *testing.T) {
	s, shop := newShop(t)
	told := func(r *repository) []string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.expected
	}
	s.push(map[string]string{"root": fromShop("web") + "\n---\n" + rootOf("db") + "\n---\n" + rootOf("more"), "more": configMaps("1", "more")})
	s.synced("more")
	if got := told(s.repo); !slices.Equal(got, []string{"db", "more"}) {
		t.Errorf("the agent's own repository was told of %v", got)
	}
	if got := told(shop); !slices.Equal(got, []string{"web"}) {
		t.Errorf("the other was told of %v", got)
	}
}
