package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// judged is the root of an app whose ConfigMaps are healthy where an expression
// is true.
func judged(name, current string) string {
	return strings.Replace(rootOf(name), "spec: {", `spec: {health: {checks: [{apiVersion: v1, kind: ConfigMap, current: "`+current+`"}]}, `, 1)
}

func (s *spoke) judge(ref fleet.ObjectRef) fleet.Health {
	s.t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(s.cluster.content(ref))); err != nil {
		s.t.Fatal(err)
	}
	return s.engine.Judge(u).Health
}

func TestAnAppsExpressionsJudgeItsObjectsAndNoOthers(t *testing.T) {
	cluster, err := new(health.Compiler).Compile([]health.Check{{APIVersion: "v1", Kind: "ConfigMap", Current: "true", Suspended: "data.value == '7'"}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSpoke(t, map[string]string{
		"root": judged("web", "data.value == '1'") + "\n---\n" + rootOf("db"),
		"web":  configMaps("7", "a"), "db": configMaps("7", "b"),
	}, func(c *reconcile.Config) { c.Checks = cluster })
	s.synced("web")
	s.synced("db")
	if got := s.judge(configMap("a")); got != fleet.Progressing {
		t.Errorf("by the App's own it is %s", got)
	}
	if got := s.judge(configMap("b")); got != fleet.Suspended {
		t.Errorf("by the cluster's it is %s", got)
	}
}

func TestOtherExpressionsHaveTheObjectsOfTheirKindJudgedAnewOnce(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": judged("web", "data.value == '1'"), "web": configMaps("1", "a", "b") + "\n---\n" + "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"}, nil)
	s.synced("web")
	digest := s.synced("web").Digest
	s.push(map[string]string{"root": judged("web", "data.value == '2'")})
	s.until("web", "judged anew", func(fleet.AppStatus) bool {
		s.cluster.mu.Lock()
		defer s.cluster.mu.Unlock()
		return slices.Equal(s.cluster.again, []string{"ConfigMap of web"})
	})
	if got := s.judge(configMap("a")); got != fleet.Progressing {
		t.Errorf("it is %s still", got)
	}
	if now := s.synced("web").Digest; now != digest {
		t.Errorf("it is another content: %s, was %s", now, digest)
	}
	// Taken away, they are judged once more; and the objects are sent at no time.
	objects := func() (n int) {
		s.cluster.mu.Lock()
		defer s.cluster.mu.Unlock()
		for _, o := range s.cluster.history {
			if !strings.Contains(o, `"kind":"App"`) {
				n++
			}
		}
		return n
	}
	sent := objects()
	s.push(map[string]string{"root": rootOf("web")})
	s.until("web", "judged anew", func(fleet.AppStatus) bool {
		s.cluster.mu.Lock()
		defer s.cluster.mu.Unlock()
		return len(s.cluster.again) == 2
	})
	if got := s.judge(configMap("a")); got != fleet.Healthy || objects() != sent {
		t.Errorf("%s, %d objects sent", got, objects()-sent)
	}
}

func TestABadExpressionLeavesWhatRunsAndNamesItsField(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": judged("web", "data.value == '1'"), "web": configMaps("1", "a")}, nil)
	s.synced("web")
	s.push(map[string]string{"root": judged("web", "data.value =="), "web": configMaps("2", "a")})
	bad := s.because("web", "InvalidSpec")
	if !strings.Contains(bad.Message, "spec.health.checks[0].current: line 1, column") || bad.Hint == "" {
		t.Errorf("%+v", bad)
	}
	if !strings.Contains(s.cluster.content(configMap("a")), `"1"`) || s.judge(configMap("a")) != fleet.Healthy {
		t.Error("what was in force does not stay")
	}
}

func deadline(d string) string {
	return strings.Replace(rootOf("web"), "spec: {", "spec: {health: {progressDeadline: "+d+"}, ", 1)
}

func TestProgressingForTooLongIsDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": deadline("5m"), "web": configMaps("1", "a", "b")}, nil)
		s.synced("web")
		s.cluster.becomes(configMap("b"), false)
		s.until("web", "progressing", func(a fleet.AppStatus) bool { return a.Health == fleet.Progressing })
		time.Sleep(5*time.Minute - time.Second) // of the bubble's own clock
		synctest.Wait()
		if got := s.synced("web"); got.Health != fleet.Progressing {
			t.Fatalf("before its time: %+v", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		late := s.until("web", "degraded", func(a fleet.AppStatus) bool { return a.Health == fleet.Degraded })
		if late.Message != "ConfigMap shop/b: has been Progressing for more than 5m: starts" {
			t.Errorf("%q", late.Message)
		}
		tree, err := s.engine.Tree(app("web"))
		if err != nil || tree[1].Health != fleet.Degraded {
			t.Errorf("%+v %v", tree, err)
		}
		s.cluster.becomes(configMap("b"), true)
		s.until("web", "healthy", func(a fleet.AppStatus) bool { return a.Health == fleet.Healthy })
	})
}

func TestWithoutADeadlineItMayProgressForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": deadline("0s"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		s.cluster.becomes(configMap("a"), false)
		s.until("web", "progressing", func(a fleet.AppStatus) bool { return a.Health == fleet.Progressing })
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got := s.synced("web"); got.Health != fleet.Progressing {
			t.Errorf("%+v", got)
		}
	})
}

func TestADeadlineThatIsMovedCountsFromWhenItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		s.cluster.becomes(configMap("a"), false)
		time.Sleep(3 * time.Minute)
		s.push(map[string]string{"root": deadline("2m")})
		s.until("web", "degraded", func(a fleet.AppStatus) bool { return a.Health == fleet.Degraded })
	})
}
