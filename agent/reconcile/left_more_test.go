package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
