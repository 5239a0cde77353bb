package reconcile_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const slowLeaves = "ConfigMap shop/slow (finalizers: [example.com/hold]) is being deleted"

// slowly is a spoke whose app has lost an object that something holds.
func slowly(t *testing.T, spec string) (*spoke, fleet.AppStatus) {
	t.Helper()
	root := strings.Replace(rootOf("web"), "spec: {", "spec: {"+spec, 1)
	s := newSpoke(t, map[string]string{"root": docs(root, rootOf("db")), "web": configMaps("1", "a", "b", "c", "slow"), "db": configMaps("1", "db")}, nil)
	s.synced("db")
	before := s.synced("web")
	s.cluster.hold("slow", true)
	s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
	return s, before
}

func TestAChangeIsDoneThoughWhatItPrunesTakesItsTime(t *testing.T) {
	s, before := slowly(t, "")
	got := s.because("web", "Pruning")
	if got.Sync != fleet.OutOfSync || got.Health != fleet.Healthy || got.Message != slowLeaves || !strings.Contains(got.Hint, "finalizer") {
		t.Errorf("got %+v", got)
	}
	if kept := s.keptOf("web"); got.Digest == before.Digest || got.Objects != 3 || kept.Halfway || len(kept.History) != 2 {
		t.Errorf("the change is not done: %+v, %d in the history", got, len(kept.History))
	}

	s.push(map[string]string{"web": configMaps("2", "a", "b", "c")})
	s.until("web", "at the next commit", func(a fleet.AppStatus) bool {
		return a.Digest != got.Digest && a.Reason == "Pruning" && strings.Contains(s.cluster.content(configMap("a")), `"2"`)
	})
	good := s.cluster.content(configMap("b"))
	s.cluster.edit(configMap("b"), strings.Replace(good, `"2"`, `"7"`, 1))
	s.eventually("what stays is healed", func() bool { return s.cluster.content(configMap("b")) == good })
	if s.cluster.asked > 0 {
		t.Errorf("it was asked for %d times, though it is seen to be there", s.cluster.asked)
	}

	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("web", "told after a restart", func(a fleet.AppStatus) bool { return a.Reason == "Pruning" && a.Message == slowLeaves })
	s.cluster.hold("slow", false)
	s.cluster.remove(configMap("slow"))
	s.cluster.touch(configMap("slow"))
	s.synced("web")
	s.eventually("off the books", func() bool { k := s.keptOf("web"); return len(k.Left) == 0 && k.LeftSince.IsZero() })
}

func TestWhatDoesNotGoInTimeIsToldAndWhatWasTold(t *testing.T) {
	s, _ := slowly(t, "sync: {waveTimeout: 1ms}, ")
	late := s.because("web", "PruneTimedOut")
	if late.Message != "for more than 1ms: "+slowLeaves || late.Hint == "" {
		t.Errorf("got %+v", late)
	}
	s.cluster.becomes(configMap("a"), false)
	s.until("web", "ill as well", func(a fleet.AppStatus) bool {
		return a.Health == fleet.Progressing && strings.HasSuffix(a.Message, slowLeaves+"; ConfigMap shop/a: starts")
	})
}

func TestWhatCantBeAskedAboutKeepsNothingWaiting(t *testing.T) {
	s, _ := slowly(t, "")
	s.because("web", "Pruning")
	s.cluster.mu.Lock()
	s.cluster.away["slow"] = true
	s.cluster.mu.Unlock()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("web", "of which it can't be told", func(a fleet.AppStatus) bool {
		return a.Message == "ConfigMap shop/slow is being deleted; it can't be told whether that is over: ConfigMap shop/slow: the API server is busy"
	})
	s.push(map[string]string{"web": configMaps("2", "a", "b", "c")})
	s.eventually("changed", func() bool { return strings.Contains(s.cluster.content(configMap("a")), `"2"`) })
}

func TestANameThatIsGivenUpIsFreeWhenItsObjectIsGone(t *testing.T) {
	s, _ := slowly(t, "")
	s.because("web", "Pruning")
	was := s.cluster.uid(configMap("slow"))
	s.push(map[string]string{"db": configMaps("2", "db", "slow")})
	got := s.because("db", "WaitsForApp")
	if !strings.Contains(got.Message, "ConfigMap shop/slow, which capstan-system/web is about to give up") {
		t.Errorf("got %+v", got)
	}
	s.cluster.hold("slow", false)
	s.cluster.remove(configMap("slow"))
	s.cluster.touch(configMap("slow"))
	s.synced("web")
	s.synced("db")
	if now := s.cluster.uid(configMap("slow")); now == was || now == "" || s.cluster.holder(configMap("slow")) != app("db") {
		t.Errorf("it has the uid %q", now)
	}
}

func TestWhatIsWantedAgainOnItsWayOutIsMadeAnew(t *testing.T) {
	s, _ := slowly(t, "")
	s.because("web", "Pruning")
	was := s.cluster.uid(configMap("slow"))
	s.push(map[string]string{"web": configMaps("2", "a", "b", "c", "slow")})
	s.until("web", "wanted again", func(a fleet.AppStatus) bool { return a.Objects == 4 })
	s.cluster.hold("slow", false)
	s.cluster.edit(configMap("slow"), "")
	s.synced("web")
	if now := s.cluster.uid(configMap("slow")); now == was || now == "" {
		t.Errorf("it has the uid %q", now)
	}
}

func TestAnAppThatGoesWaitsForWhatLeftItBefore(t *testing.T) {
	s, _ := slowly(t, "")
	s.because("web", "Pruning")
	s.push(map[string]string{"root": rootOf("db")})
	got := s.because("web", "Removing")
	if !strings.Contains(got.Message, slowLeaves) || s.cluster.there(configMap("a")) {
		t.Errorf("got %+v", got)
	}
	s.push(map[string]string{"root": rootOf("web", "db")})
	s.until("web", "whole again", func(a fleet.AppStatus) bool { return a.Objects == 3 && s.cluster.there(configMap("a")) })
	s.push(map[string]string{"root": rootOf("db")})
	s.because("web", "Removing")
	if err := s.stop(); err != nil && !errors.Is(err, fleet.ErrConflict) {
		t.Fatal(err)
	}
	s.start()
	s.because("web", "Removing")
	s.cluster.hold("slow", false)
	s.cluster.remove(configMap("slow"))
	s.cluster.touch(configMap("slow"))
	s.gone("web")
}

// Nobody tells that an object is gone of a kind that nothing else of the app is of.
func TestTheEndOfWhatNoWatchSeesIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowly(t, "sync: {waveTimeout: 4s}, ")
		s.because("web", "Pruning")
		s.cluster.mu.Lock()
		s.cluster.blind["ConfigMap"] = true
		s.cluster.mu.Unlock()
		time.Sleep(time.Second)
		s.engine.AppSeen(app("web"))
		s.because("web", "PruneTimedOut")
		s.cluster.hold("slow", false)
		s.cluster.remove(configMap("slow"))
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := len(s.keptOf("web").Left); n > 0 || s.cluster.asked > 3 {
			t.Errorf("%d are left, after %d questions", n, s.cluster.asked)
		}
	})
}
