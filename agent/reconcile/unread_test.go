package reconcile_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// lookedAt has an app looked at, by an object of its, and waits until it was.
func (s *spoke) lookedAt(name string, ref fleet.ObjectRef) {
	s.t.Helper()
	for range 2 { // the second look begins when the first has ended
		before := s.sources.askedFor(name)
		s.cluster.touch(ref)
		s.eventually("looked at", func() bool { return s.sources.askedFor(name) > before })
	}
}

// holdRoot has renders of the root wait until goOn is called. begun is closed when the
// first of them does.
func (s *spoke) holdRoot() (begun <-chan struct{}, goOn func()) {
	s.t.Helper()
	began, read := make(chan struct{}), make(chan struct{})
	begins, goOn := sync.OnceFunc(func() { close(began) }), sync.OnceFunc(func() { close(read) })
	s.t.Cleanup(goOn)
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	s.repo.onRender = func(path string) {
		if path == "root" {
			begins()
			<-read
		}
	}
	return began, goOn
}

func (s *sources) askedFor(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[app(name)]
}

// The agent ended while it took an app off. When it is back, and Git was fetched, and
// the root was not rendered yet, the app is still among those that were wanted last.
func TestWhatWasBeingTakenOffBeforeACrashIsNotBroughtBackBeforeTheRootIsRead(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "b"), "db": configMaps("1", "db")}, nil)
	s.synced("web")
	s.synced("db")
	s.synced("root") // so that both are among what was applied last
	s.cluster.hold("a", true)
	s.push(map[string]string{"root": rootOf("db")})
	s.because("web", "Removing")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.cluster.mu.Lock()
	s.cluster.objects[key(configMap("b"))] = live{uid: "somebody's", content: configMapOf("somebody else"), app: app("web")}
	s.cluster.mu.Unlock()
	before := s.cluster.requests()
	begun, goOn := s.holdRoot()
	s.repo.mu.Lock()
	fetch := sync.OnceFunc(s.repo.mu.Unlock)
	t.Cleanup(fetch)
	s.start()
	s.eventually("wanted as before", func() bool { return s.sources.askedFor("web") > 0 })
	fetch()
	<-begun
	s.lookedAt("web", configMap("a"))
	if got := s.cluster.requests(); got != before {
		t.Errorf("%d objects were sent of an app that is being taken off", got-before)
	}
	goOn()
	s.cluster.hold("a", false)
	s.cluster.touch(configMap("a"))
	s.eventually("gone", func() bool { return !s.cluster.there(configMap("a")) && !s.memory.knows("web") })
	if got := s.cluster.content(configMap("b")); got != configMapOf("somebody else") {
		t.Errorf("what somebody else made is %q", got)
	}
}

// Between a commit and the root's reading of it, what the commit brings is not what the
// App, as it was before, asked for: the same commit may have it approved by more people.
func TestWhatACommitBringsWaitsForTheRootToBeReadAtIt(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	begun, goOn := s.holdRoot()
	s.push(map[string]string{
		"root": strings.Replace(rootOf("web"), "path: web", "path: next", 1), "web": configMaps("2", "web"), "next": configMaps("3", "web"),
	})
	<-begun
	s.lookedAt("web", configMap("web"))
	s.cluster.edit(configMap("web"), configMapOf("9"))
	s.eventually("healed", func() bool { return s.cluster.content(configMap("web")) != configMapOf("9") })
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, `"1"`) {
		t.Errorf("before the root was read at the commit it is %s", got)
	}
	goOn()
	s.until("web", "at the commit", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"3"`)
	})
}

// A root that can't be had for a moment says nothing of the commit.
func TestWhatACommitBringsWaitsThoughTheRootCanNotBeHad(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	s.repo.mu.Lock()
	s.repo.lost = map[string]error{"root": errors.New("a moment's trouble")}
	s.repo.mu.Unlock()
	s.push(map[string]string{
		"root": strings.Replace(rootOf("web"), "path: web", "path: next", 1), "web": configMaps("2", "web"), "next": configMaps("3", "web"),
	})
	s.because("root", "ReadFailed")
	s.lookedAt("web", configMap("web"))
	s.cluster.remove(configMap("web"))
	s.cluster.touch(configMap("web"))
	s.eventually("healed", func() bool { return s.cluster.there(configMap("web")) })
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, `"1"`) {
		t.Errorf("before the root was read at the commit it is %s", got)
	}
	s.repo.mu.Lock()
	s.repo.lost = nil
	s.repo.mu.Unlock()
	s.until("web", "at the commit", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"3"`)
	})
}

func TestWhoAsksForATryWhileTheRootIsReadGetsIt(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.mu.Lock()
	s.cluster.failed["job"] = true
	s.cluster.mu.Unlock()
	s.push(map[string]string{"root": rootOf("web"), "web": docs(hookOf("job", "1", preSync), configMaps("1", "a"))})
	s.because("web", "HookFailed")
	tries := len(s.cluster.makings("job"))
	begun, goOn := s.holdRoot()
	s.push(map[string]string{"root": docs(rootOf("web"), configMaps("1", "shared"))})
	<-begun
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 1, Syncs: []fleet.SyncRequest{{ID: "1", App: app("web")}}}); err != nil {
		t.Fatal(err)
	}
	s.lookedAt("web", configMap("a"))
	goOn()
	s.eventually("tried again", func() bool { return len(s.cluster.makings("job")) > tries })
}
