package reconcile_test

import (
	"os"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var letters = []string{"a", "b", "c", "d", "e"}

func fiveApps() map[string]string {
	files := map[string]string{"root": rootOf(letters...)}
	for _, name := range letters {
		files[name] = configMaps("1", name)
	}
	return files
}

// disturb changes an app's object behind the agent's back, and waits until the
// agent has looked at that app.
func (s *spoke) disturb(name string) {
	s.t.Helper()
	before := s.cluster.content(configMap(name))
	s.cluster.edit(configMap(name), strings.Replace(before, `"1"`, `"9"`, 1))
	s.until(name, "looked at", func(fleet.AppStatus) bool {
		now := s.cluster.content(configMap(name))
		return now == before || now == ""
	})
}

func TestAnAppThatIsLookedAtWhileTheGuardThinksIsNotPruned(t *testing.T) {
	s := newSpoke(t, fiveApps(), nil)
	for _, name := range letters {
		s.synced(name)
	}
	looked := make(chan struct{})
	s.cluster.onPreview = func() {
		s.cluster.onPreview = nil
		s.disturb("a")
		close(looked)
	}
	s.push(map[string]string{"root": rootOf("e")})
	<-looked
	s.because("root", "WaitsForConfirmation")
	if s.cluster.content(configMap("a")) == "" {
		t.Error("an App's objects were pruned before the guard had decided")
	}
}

// guardedRoot is a spoke on which the root alone needs approval.
func guardedRoot(t *testing.T, files map[string]string, line string) *spoke {
	t.Helper()
	policy, err := gate.Config{
		Rules: []gate.Rule{{Apps: gate.AppMatch{MatchNames: []string{"*/root"}}, Approvers: []string{alice}}}, AllowedSigners: line,
	}.Policy(os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	return newSpoke(t, files, func(c *reconcile.Config) { c.Policy = policy })
}

// refuse has the cluster refuse to apply an object, or take it again.
func (c *cluster) refuse(name string, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away[name] = on
}

func TestAnApprovedChangeOfTheRootIsTriedUntilItWorks(t *testing.T) {
	key, line := newKey(t, alice)
	s := guardedRoot(t, map[string]string{"root": configMaps("1", "own")}, line)
	s.because("root", "WaitsForApproval")
	s.cluster.refuse("own", true)
	s.bring(s.sign(key, s.statement("root")))
	s.because("root", "ApplyFailed")
	s.cluster.refuse("own", false)
	s.engine.AppSeen(app("root"))
	s.synced("root")
}

func TestTheGuardOfTheRootOpensByApproval(t *testing.T) {
	key, line := newKey(t, alice)
	s := guardedRoot(t, fiveApps(), line)
	for _, name := range letters {
		s.synced(name)
	}
	s.push(map[string]string{"root": rootOf("e")})
	s.because("root", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("root")))
	for _, name := range letters[:4] {
		s.gone(name)
	}
}
