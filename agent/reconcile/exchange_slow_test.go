package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What is given up and takes its time to go is waited for without work.
func TestAnExchangeOfWhatIsSlowToGoWaitsWithoutWork(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "b", "c", "xx"), "db": configMaps("1", "d", "e", "f", "yy")}, nil)
	s.synced("web")
	s.synced("db")
	s.cluster.hold("xx", true)
	s.cluster.hold("yy", true)
	s.push(map[string]string{"web": configMaps("1", "a", "b", "c", "yy"), "db": configMaps("1", "d", "e", "f", "xx")})
	s.eventually("both are given up", func() bool { return len(s.keptOf("web").Left)+len(s.keptOf("db").Left) == 2 })
	look := func() {
		s.lookedAt("web", configMap("a"))
		s.lookedAt("db", configMap("d"))
	}
	look()
	renders, writes := s.work()
	for range 5 {
		look()
	}
	if r, w := s.work(); r != renders || w != writes {
		t.Errorf("%d renders and %d writes", r-renders, w-writes)
	}
	for _, name := range []string{"xx", "yy"} {
		s.cluster.hold(name, false)
		s.cluster.remove(configMap(name))
		s.cluster.touch(configMap(name))
	}
	s.synced("web")
	s.synced("db")
	if s.cluster.holder(configMap("yy")) != app("web") || s.cluster.holder(configMap("xx")) != app("db") {
		t.Error("they are not exchanged")
	}
}

// What leaves an app, is going, and is wanted by it again, is kept by it: others give nothing up for it.
func TestWhatIsWantedAgainOnItsWayOutIsKeptFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "b", "c", "slow"), "db": configMaps("1", "d", "e", "f", "yy")}, nil)
		s.synced("web")
		s.synced("db")
		s.cluster.hold("slow", true)
		s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
		s.because("web", "Pruning")
		s.push(map[string]string{"web": configMaps("1", "a", "b", "c", "slow", "yy"), "db": configMaps("1", "d", "e", "f", "slow")})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s.cluster.holder(configMap("yy")) != app("db") {
			t.Error("db gave up what it has for what web keeps")
		}
		for _, name := range []string{"web", "db"} {
			s.until(name, "refused", func(a fleet.AppStatus) bool { return a.Reason == "ApplyFailed" })
		}
	})
}
