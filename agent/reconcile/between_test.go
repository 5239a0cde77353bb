package reconcile_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// keptOf is what is kept of an app.
func (s *spoke) keptOf(name string) state.App {
	s.t.Helper()
	all, err := s.memory.LoadApps(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range all {
		if a.Name == app(name) {
			return a
		}
	}
	s.t.Fatalf("nothing is kept of %s", name)
	return state.App{}
}

// The agent had sent the new content of the first wave, noted that, and ended in
// the second wave; then somebody deleted an object of the first. What is made anew
// while the change goes on is the new one.
func TestWhatIsDeletedInTheMiddleOfAChangeComesBackAsTheChangeHasIt(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": inWaves("1")}, nil)
	s.synced("web")
	before := s.keptOf("web")
	s.push(map[string]string{"web": inWaves("2")})
	s.until("web", "at the second content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("late")), `"value":"2"`)
	})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	after := s.keptOf("web")
	middle := before
	middle.Halfway = true
	for i, it := range after.Items {
		if it.Ref.Name == "early" {
			middle.Items[i] = it
		}
	}
	if err := s.memory.SaveApp(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	s.cluster.sentAlready(configMap("plain"), `"value":"2"`, `"value":"1"`)
	s.cluster.sentAlready(configMap("late"), `"value":"2"`, `"value":"1"`)
	s.cluster.mu.Lock()
	delete(s.cluster.objects, key(configMap("early")))
	s.cluster.unwell["plain"] = true
	sent := len(s.cluster.history)
	s.cluster.mu.Unlock()

	s.start()
	s.eventually("made anew", func() bool { return s.cluster.there(configMap("early")) })
	s.cluster.touch(configMap("early")) // a watch tells of it
	s.until("web", "in the second wave", waitsFor("plain"))
	s.cluster.becomes(configMap("plain"), true)
	s.synced("web")
	if got := s.cluster.content(configMap("early")); !strings.Contains(got, `"value":"2"`) {
		t.Errorf("synced, and what runs is %s", got)
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, one := range s.cluster.history[sent:] {
		if strings.Contains(one, `"value":"1"`) {
			t.Errorf("sent was %s", one)
		}
	}
}

// The agent had sent part of a change when it ended, and now the change is refused
// because another app has one of its objects.
func TestWhatWasSentOfAChangeThatIsRefusedNowIsNotTakenBack(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a"), "db": configMaps("1", "c")}, nil)
	s.synced("web")
	s.synced("db")
	s.synced("root")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.repo.files["web"] = configMaps("2", "a", "c")
	s.cluster.sentAlready(configMap("a"), `"1"`, `"2"`)
	before := len(s.cluster.history)
	s.start()
	s.because("web", "ApplyFailed")
	s.cluster.touch(configMap("a"))
	s.push(map[string]string{"web": configMaps("2", "a")})
	s.until("web", "mended", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && a.Objects == 1 && strings.Contains(s.cluster.content(configMap("a")), `"2"`)
	})
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, one := range s.cluster.history[before:] {
		if strings.Contains(one, `"value":"1"`) && strings.Contains(one, `"name":"a"`) {
			t.Errorf("it was put back to %s", one)
		}
	}
}
