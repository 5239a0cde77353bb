package reconcile_test

import (
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Labels may come after the root has chosen the apps and before it has passed that
// on: while it applies what else it holds. Nothing that it reads anew tells then that
// they count for nobody yet.
func TestLabelsThatComeWhileTheRootIsReadBringTheirApps(t *testing.T) {
	s := newSpoke(t, map[string]string{
		"root": forEnv("web", "dev") + "\n---\n" + configMaps("1", "loose"),
		"web":  configMaps("1", "web"),
	}, func(c *reconcile.Config) { c.Assignable = []string{"env"} })
	s.synced("root")

	var took error
	once := sync.OnceFunc(func() {
		took = s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 1, Labels: map[string]string{"env": "dev"}})
	})
	s.cluster.mu.Lock()
	s.cluster.onSend = func(ref fleet.ObjectRef) {
		if ref.Name == "loose" {
			once()
		}
	}
	s.cluster.mu.Unlock()
	s.push(map[string]string{"root": forEnv("web", "dev") + "\n---\n" + configMaps("2", "loose")})
	s.synced("web")
	if took != nil {
		t.Error(took)
	}
}
