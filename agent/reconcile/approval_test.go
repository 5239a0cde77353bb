package reconcile_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

const alice = "alice@example.com"

// newKey makes an SSH key, and its line for allowed_signers.
func newKey(t *testing.T, principal string) (*signing.Key, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, principal)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := signing.LoadKey(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key, principal + " " + string(ssh.MarshalAuthorizedKey(pub))
}

// guarded is a spoke whose every app needs approval by alice.
func guarded(t *testing.T, files map[string]string, line string, adapt func(*reconcile.Config)) *spoke {
	t.Helper()
	ask := policyOf(t, line)
	return newSpoke(t, files, func(c *reconcile.Config) {
		ask(c)
		if adapt != nil {
			adapt(c)
		}
	})
}

func policyOf(t *testing.T, line string) func(*reconcile.Config) {
	t.Helper()
	policy, err := gate.Config{
		Rules: []gate.Rule{{Apps: gate.AppMatch{MatchNames: []string{"*/*"}}, Approvers: []string{alice}}}, AllowedSigners: line,
	}.Policy(os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *reconcile.Config) { c.Policy = policy }
}

// statement approves what waits.
func (s *spoke) statement(name string) fleet.Approval {
	s.t.Helper()
	signed, err := s.engine.Plan(app(name))
	if err != nil {
		s.t.Fatal(err)
	}
	var p fleet.Plan
	if err := json.Unmarshal(signed.Plan, &p); err != nil {
		s.t.Fatal(err)
	}
	return fleet.Approval{
		Action: p.Action, App: p.App.String(), Approver: alice,
		Targets:   []fleet.Target{{ClusterUID: p.ClusterUID, Cluster: p.Cluster, From: p.From, To: p.To, Plan: p.ID}},
		NotBefore: s.now.Add(-time.Minute).UTC().Truncate(time.Second), Expires: s.now.Add(time.Hour).UTC().Truncate(time.Second),
	}
}

func (s *spoke) sign(key *signing.Key, a fleet.Approval) fleet.SignedApproval {
	s.t.Helper()
	signed, err := signing.SignApproval(a, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return signed
}

var revision uint64

// bring hands the spoke approvals, as the hub would.
func (s *spoke) bring(approvals ...fleet.SignedApproval) {
	s.t.Helper()
	revision++
	if err := s.engine.TakeIntent(s.t.Context(), fleet.Intent{Instance: "h", Revision: revision, Approvals: approvals}); err != nil {
		s.t.Fatal(err)
	}
}

func webAndRoot() map[string]string {
	return map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}
}

func TestAnApprovalLetsItsPlanThroughOnce(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, webAndRoot(), line, nil)
	waiting := s.because("web", "WaitsForApproval")
	if waiting.Sync != fleet.Pending || waiting.Pending.Need != 1 || s.cluster.content(configMap("web")) != "" {
		t.Fatalf("got %+v", waiting)
	}
	first := s.sign(key, s.statement("web"))
	s.bring(first)
	s.synced("web")

	s.push(map[string]string{"web": configMaps("2", "web")})
	s.because("web", "WaitsForApproval")
	second := s.sign(key, s.statement("web"))
	s.bring(first, second)
	s.synced("web")

	// Back to the first content: the first approval is for a plan that was used.
	s.push(map[string]string{"web": configMaps("1", "web")})
	replayed := s.because("web", "WaitsForApproval")
	s.bring(first, second)
	if replayed.Pending == nil {
		t.Errorf("a replayed approval let a plan through: %+v", replayed)
	}
	s.until("web", "refused as used", func(a fleet.AppStatus) bool { return strings.Contains(a.Message, "once") })
}

func TestARefusedApprovalSaysWhy(t *testing.T) {
	key, line := newKey(t, alice)
	strangers, _ := newKey(t, alice)
	for _, tt := range []struct {
		name    string
		approve func(s *spoke) fleet.SignedApproval
		message string
	}{
		{"unsigned", func(s *spoke) fleet.SignedApproval {
			a := s.sign(key, s.statement("web"))
			a.Signature = ""
			return a
		}, "signed"},
		{"by a key that is not pinned", func(s *spoke) fleet.SignedApproval { return s.sign(strangers, s.statement("web")) }, "pinned"},
		{"altered after it was signed", func(s *spoke) fleet.SignedApproval {
			a := s.sign(key, s.statement("web"))
			other := s.statement("web")
			other.Comment = "altered"
			a.Statement, _ = fleet.Canonical(other)
			return a
		}, "signature"},
		{"for another plan", func(s *spoke) fleet.SignedApproval {
			a := s.statement("web")
			a.Targets[0].Plan = "ANOTHERPLAN"
			return s.sign(key, a)
		}, "no longer the plan"},
		{"for other content", func(s *spoke) fleet.SignedApproval {
			a := s.statement("web")
			a.Targets[0].To = "sha256:0000"
			return s.sign(key, a)
		}, "other content"},
		{"for another cluster", func(s *spoke) fleet.SignedApproval {
			a := s.statement("web")
			a.Targets[0].ClusterUID, a.Targets[0].Cluster = "uid-of-other", "other"
			return s.sign(key, a)
		}, "cluster other"},
		{"expired", func(s *spoke) fleet.SignedApproval {
			a := s.statement("web")
			a.NotBefore, a.Expires = a.NotBefore.Add(-3*time.Hour), a.Expires.Add(-3*time.Hour)
			return s.sign(key, a)
		}, "expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, webAndRoot(), line, nil)
			s.because("web", "WaitsForApproval")
			s.bring(tt.approve(s))
			got := s.until("web", "refused", func(a fleet.AppStatus) bool { return strings.Contains(a.Message, "refused") })
			if !strings.Contains(got.Message, tt.message) || got.Sync != fleet.Pending {
				t.Errorf("message %q does not say %q", got.Message, tt.message)
			}
			s.until("web", "on the App's condition", func(fleet.AppStatus) bool {
				s.told.mu.Lock()
				defer s.told.mu.Unlock()
				for _, c := range s.told.objects[app("web")].Conditions {
					if c.Type == fleet.ConditionReady && strings.Contains(c.Message, tt.message) {
						return true
					}
				}
				return false
			})
			if s.cluster.content(configMap("web")) != "" {
				t.Error("a refused approval let the plan through")
			}
		})
	}
}

func TestNeitherTheHubNorGitCanTakeTheGateAway(t *testing.T) {
	_, line := newKey(t, alice)
	s := guarded(t, webAndRoot(), line, func(c *reconcile.Config) { c.Declared = map[string]string{"env": "prod"} })
	s.because("web", "WaitsForApproval")
	if err := s.engine.TakeIntent(t.Context(), fleet.Intent{Instance: "h", Revision: 9000, Labels: map[string]string{"env": "dev"}}); err != nil {
		t.Fatal(err)
	}
	s.push(map[string]string{"root": strings.Replace(rootOf("web"), "spec: {", "spec: {approval: {clusters: {matchLabels: {env: nowhere}}}, ", 1), "web": configMaps("2", "web")})
	s.until("web", "waiting with the new content", func(a fleet.AppStatus) bool { return a.Pending != nil && a.Reason == "WaitsForApproval" })
	if s.cluster.content(configMap("web")) != "" {
		t.Error("it was applied")
	}
}

func TestAnAppCanAskForApprovalWhereTheClusterDoesNot(t *testing.T) {
	key, line := newKey(t, alice)
	asks := strings.Replace(rootOf("web"), "spec: {", "spec: {approval: {clusters: {matchLabels: {env: prod}}}, ", 1)
	policy, err := gate.Config{AllowedSigners: line}.Policy(os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"dev", "prod"} {
		s := newSpoke(t, map[string]string{"root": asks, "web": configMaps("1", "web")}, func(c *reconcile.Config) {
			c.Policy, c.Declared = policy, map[string]string{"env": env}
		})
		if env == "prod" {
			s.because("web", "WaitsForApproval")
			s.bring(s.sign(key, s.statement("web")))
		}
		s.synced("web")
	}
}

func TestACommitThatRendersTheSameNeedsNoApproval(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, webAndRoot(), line, nil)
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	first := s.synced("web")
	s.push(map[string]string{"web": configMaps("1", "web") + "# a comment\n"})
	s.until("web", "at the new revision", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Revision != first.Revision })
}

func TestOnAGuardedClusterARemovalWaitsToo(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, line, nil)
	for _, name := range []string{"web", "db"} {
		s.because(name, "WaitsForApproval")
		s.bring(s.sign(key, s.statement(name)))
		s.synced(name)
	}
	s.push(map[string]string{"root": rootOf("db")})
	waiting := s.until("web", "its removal waiting", func(a fleet.AppStatus) bool { return a.Pending != nil && a.Pending.Action == fleet.ActionRemove })
	if s.cluster.content(configMap("web")) == "" {
		t.Fatalf("it was removed without approval: %+v", waiting)
	}
	s.bring(s.sign(key, s.statement("web")))
	s.gone("web")
	if s.cluster.content(configMap("web")) != "" {
		t.Error("the removal was approved and left an object behind")
	}
}

func TestAnApprovedPlanSurvivesACrash(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web"), "web": configMaps("refuse", "web")}, line, nil)
	s.because("web", "WaitsForApproval")
	s.bring(s.sign(key, s.statement("web")))
	failed := s.because("web", "ApplyFailed")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	again := s.because("web", "ApplyFailed")
	if fmt.Sprint(failed.Pending, again.Pending) != "<nil> <nil>" {
		t.Errorf("it asks for approval again: %+v", again)
	}
}

func TestALabelFromTheHubTakesNoGateOfAnAppAway(t *testing.T) {
	_, line := newKey(t, alice)
	asks := strings.Replace(rootOf("web"), "spec: {", "spec: {approval: {clusters: {matchExpressions: [{key: env, operator: NotIn, values: [dev]}]}}, ", 1)
	policy, err := gate.Config{AllowedSigners: line}.Policy(os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	s := newSpoke(t, map[string]string{"root": asks, "web": configMaps("1", "web")}, func(c *reconcile.Config) {
		c.Policy, c.Assignable = policy, []string{"env"}
	})
	first := s.because("web", "WaitsForApproval").Pending
	in := fleet.Intent{Instance: "h", Revision: 1, Labels: map[string]string{"env": "dev"}}
	if err := s.engine.TakeIntent(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.push(map[string]string{"web": configMaps("2", "web")})
	s.until("web", "decided on anew", func(a fleet.AppStatus) bool {
		return s.cluster.content(configMap("web")) != "" || a.Pending != nil && a.Pending.Digest != first.Digest
	})
	if s.cluster.content(configMap("web")) != "" {
		t.Error("a label that the hub assigned opened the gate")
	}
}

func TestAPlanGoesOnWhenNobodyAsksForApprovalAnyMore(t *testing.T) {
	_, line := newKey(t, alice)
	asks := strings.Replace(rootOf("web"), "spec: {", "spec: {approval: {clusters: {matchLabels: {env: prod}}}, ", 1)
	policy, err := gate.Config{AllowedSigners: line}.Policy(os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	s := newSpoke(t, map[string]string{"root": asks, "web": configMaps("1", "web")}, func(c *reconcile.Config) {
		c.Policy, c.Assignable = policy, []string{"env"}
	})
	s.synced("web")
	for i, env := range []string{"prod", "dev"} {
		in := fleet.Intent{Instance: "h", Revision: uint64(i) + 1, Labels: map[string]string{"env": env}}
		if err := s.engine.TakeIntent(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if env == "prod" {
			s.push(map[string]string{"web": configMaps("2", "web")})
			s.because("web", "WaitsForApproval")
		}
	}
	s.synced("web")
}
