package reconcile_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// appliedAs is a root with one app that names a ServiceAccount.
func appliedAs(name, account string) string {
	return strings.Replace(rootOf(name), "spec: {", "spec: {serviceAccountName: "+account+", ", 1)
}

func (s *spoke) didAs(who string, verbs ...string) {
	s.t.Helper()
	for _, verb := range verbs {
		if got := s.cluster.did(verb); got != who {
			s.t.Errorf("%s: done by %q, want %q", verb, got, who)
		}
	}
}

func TestAllThatIsDoneForAnAppIsDoneAsItsServiceAccount(t *testing.T) {
	s := newSpoke(t, map[string]string{
		"root": appliedAs("web", "deployer") + "\n---\n" + rootOf("db"),
		"web":  configMaps("1", "web", "old"), "db": configMaps("1", "db"),
	}, nil)
	s.synced("web")
	s.synced("db")
	s.push(map[string]string{"web": configMaps("2", "web", "old")})
	s.until("web", "at the new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "without the old object", func(a fleet.AppStatus) bool { return a.Objects == 1 })
	good := s.cluster.content(configMap("web"))
	s.cluster.edit(configMap("web"), strings.Replace(good, `"2"`, `"7"`, 1))
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == good })

	s.didAs("capstan-system/deployer", "apply ConfigMap old", "check ConfigMap web", "get ConfigMap web", "heal ConfigMap web", "prune ConfigMap old")
	s.didAs("agent", "apply ConfigMap db", "apply App web", "apply App db")
	s.push(map[string]string{"root": rootOf("db")})
	s.gone("web")
	s.didAs("capstan-system/deployer", "prune ConfigMap web")
}

func TestAnAppOversteppingIsRefusedAndItsNeighbourWorks(t *testing.T) {
	s := newSpoke(t, map[string]string{
		"root": appliedAs("web", "deployer") + "\n---\n" + rootOf("db"),
		"web":  configMaps("1", "web"), "db": configMaps("1", "db"),
	}, nil)
	s.synced("web")
	s.cluster.mu.Lock()
	s.cluster.powerless["capstan-system/deployer"] = "ClusterRole"
	s.cluster.mu.Unlock()
	s.push(map[string]string{
		"web": configMaps("2", "web") + "\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: wide}\n",
		"db":  configMaps("2", "db"),
	})
	if got := s.because("web", "ApplyFailed"); !strings.Contains(got.Message, "ServiceAccount capstan-system/deployer") {
		t.Errorf("message %q", got.Message)
	}
	s.until("db", "going on", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("db")), `"2"`) })
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, `"1"`) {
		t.Errorf("what runs was touched: %s", got)
	}
}

func TestAnAppThatWasRefusedAltogetherCanBeTakenAway(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
	s.synced("db")
	s.cluster.mu.Lock()
	s.cluster.powerless["capstan-system/deployer"] = "ConfigMap"
	s.cluster.mu.Unlock()
	s.push(map[string]string{"root": appliedAs("web", "deployer") + "\n---\n" + rootOf("db")})
	if got := s.because("web", "ApplyFailed"); got.Objects != 0 {
		t.Errorf("it owns %d objects", got.Objects)
	}
	s.push(map[string]string{"root": rootOf("db")})
	s.gone("web")
}

func TestAnotherServiceAccountIsAnotherDigestAndIsAskedForAllOfIt(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": appliedAs("web", "deployer"), "web": configMaps("1", "web")}, nil)
	before := s.synced("web").Digest
	s.cluster.mu.Lock()
	s.cluster.powerless["capstan-system/weak"] = "ConfigMap"
	s.cluster.mu.Unlock()
	s.push(map[string]string{"root": appliedAs("web", "weak")})
	s.because("web", "ApplyFailed")

	good := s.cluster.content(configMap("web"))
	s.cluster.edit(configMap("web"), strings.Replace(good, `"1"`, `"7"`, 1))
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == good })
	s.didAs("capstan-system/deployer", "heal ConfigMap web") // who applied it, until another may

	s.push(map[string]string{"root": appliedAs("web", "strong")})
	s.until("web", "applied as the other", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest != before })
	s.didAs("capstan-system/strong", "check ConfigMap web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.cluster.edit(configMap("web"), strings.Replace(good, `"1"`, `"7"`, 1))
	s.start()
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == good })
	s.didAs("capstan-system/strong", "heal ConfigMap web") // also after a restart
}

func TestWhoAppliesWaitsForApprovalToo(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": appliedAs("web", "deployer"), "web": configMaps("1", "web")}, line, nil)
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	s.synced("web")
	s.push(map[string]string{"root": appliedAs("web", "admin")})
	s.because("web", "WaitsForApproval")
	good := s.cluster.content(configMap("web"))
	s.cluster.edit(configMap("web"), strings.Replace(good, `"1"`, `"7"`, 1))
	s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("web")) == good })
	s.didAs("capstan-system/deployer", "heal ConfigMap web")
}

func TestWithoutClusterAdminEveryAppNamesAServiceAccount(t *testing.T) {
	s := newSpoke(t, map[string]string{
		"root": rootOf("web") + "\n---\n" + appliedAs("db", "deployer"),
		"web":  configMaps("1", "web"), "db": configMaps("1", "db"),
	}, func(c *reconcile.Config) { c.ApplyAs.Required = true })
	s.synced("db")
	got := s.because("web", "InvalidSpec")
	if !strings.Contains(got.Message, "spec.serviceAccountName") || !strings.Contains(got.Hint, "namespace capstan-system") {
		t.Errorf("message %q, hint %q", got.Message, got.Hint)
	}
	if s.cluster.there(configMap("web")) {
		t.Error("it was applied all the same")
	}
	s.push(map[string]string{"root": appliedAs("web", "deployer") + "\n---\n" + appliedAs("db", "deployer") + "\n---\n" + configMaps("1", "loose")})
	s.synced("web")
	got = s.because("root", "InvalidSpec")
	if !strings.Contains(got.Message, "ConfigMap shop/loose") || !strings.Contains(got.Hint, "applyAs.root") || s.cluster.there(configMap("loose")) {
		t.Errorf("message %q, hint %q", got.Message, got.Hint)
	}
	s.push(map[string]string{"root": appliedAs("web", "deployer") + "\n---\n" + appliedAs("db", "deployer")})
	s.synced("root")
}

func TestTheClusterSaysAsWhomWhatNamesNobodyIsApplied(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web") + "\n---\n" + configMaps("1", "loose"), "web": configMaps("1", "web")},
		func(c *reconcile.Config) {
			c.ApplyAs = reconcile.ApplyAs{Required: true, Default: "apps", Root: "fleet"}
		})
	before := s.synced("web").Digest
	s.synced("root")
	s.didAs("capstan-system/fleet", "apply ConfigMap loose")
	good := s.cluster.content(configMap("loose"))
	s.cluster.edit(configMap("loose"), strings.Replace(good, `"1"`, `"7"`, 1))
	s.until("root", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("loose")) == good })
	s.didAs("capstan-system/fleet", "heal ConfigMap loose")

	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.cfg.ApplyAs.Default = "others"
	s.start()
	s.until("web", "applied as the other", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest != before })
	s.didAs("capstan-system/others", "check ConfigMap web")
}

func TestAKindThatMayNotBeWatchedIsAppliedAndSaysSo(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
	s.synced("web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.cluster.blind["ConfigMap"] = true
	s.start()
	s.push(map[string]string{"web": configMaps("2", "web")})
	got := s.until("web", "told", func(a fleet.AppStatus) bool {
		return a.Health == fleet.HealthUnknown && a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"2"`)
	})
	if !strings.Contains(got.Message, "can't be watched") || got.Hint != "let it" {
		t.Errorf("got %+v", got)
	}
}
