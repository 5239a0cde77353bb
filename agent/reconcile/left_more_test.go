package reconcile_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// dependents is a spoke of which db depends on web, and web has an object that something holds.
func dependents(t *testing.T, db ...string) *spoke {
	t.Helper()
	root := docs(rootOf("web"), strings.Replace(rootOf("db"), "spec: {", "spec: {dependsOn: [{name: web}], ", 1))
	s := newSpoke(t, map[string]string{"root": root, "web": configMaps("1", "a", "b", "c", "slow"), "db": configMaps("1", db...)}, nil)
	s.synced("db")
	s.cluster.hold("slow", true)
	return s
}

func TestWhatTakesItsTimeToGoHoldsNoDependentUp(t *testing.T) {
	s := dependents(t, "db")
	s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
	s.because("web", "Pruning")
	s.push(map[string]string{"db": configMaps("2", "db")})
	s.until("db", "changed", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("db")), `"2"`)
	})
	s.cluster.becomes(configMap("a"), false)
	s.until("web", "ill as well", func(a fleet.AppStatus) bool { return a.Health == fleet.Progressing })
	s.push(map[string]string{"db": configMaps("3", "db")})
	s.because("db", "WaitsForDependency")
	s.cluster.becomes(configMap("a"), true)
	s.synced("db")
}

// What an app gives up goes when another has given up what holds it, which depends on the first.
func TestWhatADependentHoldsIsGivenUpByIt(t *testing.T) {
	s := dependents(t, "db", "mounts")
	s.push(map[string]string{"web": configMaps("1", "a", "b", "c"), "db": configMaps("1", "db")})
	s.eventually("given up by it", func() bool { return !s.cluster.there(configMap("mounts")) })
	s.because("web", "Pruning")
	s.synced("db")
}

func TestWhatTheAccountMayNotSeeAnyMoreIsFoundToBeGone(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": appliedAs("web", "deployer"), "web": configMaps("1", "a", "b", "c", "slow")}, nil)
	s.synced("web")
	s.cluster.hold("slow", true)
	s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
	s.because("web", "Pruning")
	s.cluster.mu.Lock()
	s.cluster.powerless["capstan-system/deployer"] = "ConfigMap"
	s.cluster.mu.Unlock()
	s.cluster.hold("slow", false)
	s.cluster.remove(configMap("slow"))
	s.cluster.touch(configMap("slow"))
	s.synced("web")
}

func TestAnAppOfWhichOnlyWhatLeftItIsThereIsNotBroughtBackBeforeTheRootIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowly(t, "")
		s.because("web", "Pruning")
		s.push(map[string]string{"root": rootOf("db")})
		s.because("web", "Removing")
		s.eventually("off", func() bool { return !s.cluster.there(configMap("a")) && len(s.keptOf("web").Items) == 0 })
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s.repo.files["root"] = "not: [yaml"
		s.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.cluster.there(configMap("a")) {
			t.Error("it was brought back")
		}
		s.push(map[string]string{"root": rootOf("web", "db")})
		s.until("web", "wanted again", func(a fleet.AppStatus) bool { return a.Objects == 3 && s.cluster.there(configMap("a")) })
	})
}

// What left a minute ago is not late because another thing is that left before it.
func TestEachThingThatIsPrunedHasItsOwnTimeToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b", "c", "old", "young")}, nil)
		s.synced("web")
		s.cluster.hold("old", true)
		s.cluster.hold("young", true)
		s.push(map[string]string{"web": configMaps("1", "a", "b", "c", "young")})
		s.because("web", "Pruning")
		time.Sleep(9 * time.Minute)
		s.push(map[string]string{"web": configMaps("1", "a", "b", "c")})
		s.eventually("both go", func() bool { return len(s.keptOf("web").Left) == 2 })
		began := time.Now()
		s.restart()
		time.Sleep(2 * time.Minute)
		got := s.because("web", "PruneTimedOut")
		of := func(name string) string { return strings.Replace(slowLeaves, "slow", name, 1) }
		if got.Message != "for more than 10m0s: "+of("old")+"; "+of("young") {
			t.Errorf("got %q", got.Message)
		}
		s.cluster.hold("old", false)
		s.cluster.remove(configMap("old"))
		s.cluster.touch(configMap("old"))
		s.because("web", "Pruning")
		s.timesOut("web", "Pruning", "PruneTimedOut", began, 10*time.Minute)
	})
}

func TestWhatAnOlderAgentNotedToBeGoingIsLateWhenItShouldBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowly(t, "")
		s.because("web", "Pruning")
		began := time.Now()
		time.Sleep(6 * time.Minute)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		var kept map[string]any
		if err := json.Unmarshal(s.memory.apps[app("web")], &kept); err != nil {
			t.Fatal(err)
		}
		item := kept["left"].([]any)[0].(map[string]any)
		kept["leftSince"] = item["pruned"]
		delete(item, "pruned")
		s.memory.apps[app("web")], _ = json.Marshal(kept) // it was decoded
		s.start()
		s.timesOut("web", "Pruning", "PruneTimedOut", began, 10*time.Minute)
	})
}

// What is stuck may be so for days.
func TestWhatIsStuckIsAskedAboutOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowly(t, "")
		s.because("web", "Pruning")
		s.cluster.mu.Lock()
		s.cluster.blind["ConfigMap"] = true
		s.cluster.mu.Unlock()
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		s.cluster.mu.Lock()
		before := s.cluster.asked
		s.cluster.mu.Unlock()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		s.cluster.mu.Lock()
		asked := s.cluster.asked - before
		s.cluster.mu.Unlock()
		if asked < 29 || asked > 31 {
			t.Errorf("it was asked %d times in half an hour", asked)
		}
	})
}

type askedToGo struct {
	reconcile.Cluster
	times *atomic.Int64
}

func (a askedToGo) Remove(ctx context.Context, name fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	a.times.Add(1)
	return a.Cluster.Remove(ctx, name, items)
}

func TestWhatKeepsAnAppFromGoingIsAskedAboutOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "slow"), "db": configMaps("1", "db")}, nil)
		times := &atomic.Int64{}
		s.again(func(p *reconcile.Parts) {
			p.Cluster = wrapped{p.Cluster, func(c reconcile.Cluster) reconcile.Cluster { return askedToGo{c, times} }}
		})
		s.synced("web")
		s.cluster.hold("slow", true)
		s.push(map[string]string{"root": rootOf("db")})
		s.because("web", "Removing")
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		before := times.Load()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := times.Load() - before; n < 29 || n > 31 {
			t.Errorf("it was asked to go %d times in half an hour", n)
		}
		s.cluster.hold("slow", false)
		s.cluster.remove(configMap("slow"))
		s.cluster.touch(configMap("slow"))
		s.gone("web")
	})
}
