package reconcile_test

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// While more of the crowd than inHand are not applied yet, some wait for a worker.
const (
	crowd  = 60
	inHand = 8
)

// crowded is a spoke on which many apps wait to be applied for the first time.
func crowded(t *testing.T) (s *spoke, names []string) {
	t.Helper()
	s = newSpoke(t, map[string]string{"root": rootOf()}, nil)
	s.synced("root")
	files := map[string]string{}
	for i := range crowd {
		name := fmt.Sprintf("app%02d", i)
		names = append(names, name)
		files[name] = configMaps("1", name)
	}
	files["root"] = rootOf(names...)
	s.repo.mu.Lock()
	maps.Copy(s.repo.files, files)
	s.repo.mu.Unlock()
	s.cluster.gate = make(chan struct{})
	return s, names
}

// crowdIn lets the apps be applied, once all of them wait for it.
func (s *spoke) crowdIn() {
	s.push(nil)
	time.Sleep(time.Second) // of the bubble's own clock: by then all are blocked
	close(s.cluster.gate)
}

// applied tells how many of the crowd's objects are on the cluster.
func (c *cluster) applied() int { return c.count("ConfigMap") }

// count tells how many objects of a kind are on the cluster.
func (c *cluster) count(kind string) int {
	n := 0
	for ref := range c.objects {
		if ref.Kind == kind {
			n++
		}
	}
	return n
}

func TestWhatManyAppsRunComesBeforeWritingDownThatItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, names := crowded(t)
		early, written := 0, map[fleet.AppName]bool{}
		s.memory.saved = func(a state.App) {
			if a.Digest == fleet.NoDigest || a.Name == app("root") {
				return
			}
			s.cluster.mu.Lock()
			defer s.cluster.mu.Unlock()
			if written[a.Name] = true; s.cluster.applied() < crowd-inHand {
				early++
			}
		}
		s.crowdIn()
		for _, name := range names {
			s.synced(name)
		}
		synctest.Wait()
		if early != 0 {
			t.Errorf("%d of %d apps were written down while others waited to run", early, crowd)
		}
		if len(written) != crowd {
			t.Errorf("%d of %d apps were written down when all was done", len(written), crowd)
		}
	})
}

func TestACrashBeforeItWasWrittenDownForgetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, names := crowded(t)
		crash := map[fleet.AppName][]byte{}
		s.cluster.onApply = func(int) {
			if s.cluster.applied() == crowd-inHand-1 {
				s.memory.mu.Lock()
				defer s.memory.mu.Unlock()
				crash = maps.Clone(s.memory.apps)
			}
		}
		s.crowdIn()
		for _, name := range names {
			s.synced(name)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if n := undone(t, crash); n < crowd-inHand {
			t.Fatalf("only %d apps were not written down", n)
		}
		s.memory.apps, s.cluster.onApply = crash, nil
		s.start()
		for _, name := range names {
			s.synced(name)
		}
		s.push(map[string]string{"root": rootOf(names[1:]...)})
		s.gone(names[0])
		if s.cluster.content(configMap(names[0])) != "" {
			t.Error("an object was applied before the crash and is nobody's after it")
		}
	})
}

// undone counts the apps that are not written down as applied.
func undone(t *testing.T, apps map[fleet.AppName][]byte) int {
	t.Helper()
	all, err := (&memory{apps: apps}).LoadApps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, a := range all {
		if a.Digest == fleet.NoDigest {
			n++
		}
	}
	return n
}

func TestAnAgentThatIsAskedToEndWritesDownWhatItPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := crowded(t)
		done := make(chan struct{})
		s.cluster.onApply = func(int) {
			if s.cluster.applied() == crowd/2 {
				s.ask()
				close(done)
			}
		}
		s.crowdIn()
		<-done
		if err := s.ended(); err != nil {
			t.Fatal(err)
		}
		s.cluster.onApply = nil
		for ref, o := range s.cluster.objects {
			if ref.Kind != "ConfigMap" {
				continue
			}
			all, err := s.memory.LoadApps(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range all {
				if a.Name == o.app && a.Digest == fleet.NoDigest {
					t.Errorf("%s runs, and it is not written down", a.Name)
				}
			}
		}
		time.Sleep(time.Minute) // nothing goes on
	})
}
