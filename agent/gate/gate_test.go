package gate_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// people have a key each; bob has two, and eve's is pinned nowhere.
type people struct {
	alice, bob, bob2, carol, eve *signing.Key
	file                         string
	allowed                      *signing.AllowedSigners
}

func newPeople(t *testing.T) people {
	t.Helper()
	p := people{alice: newKey(t), bob: newKey(t), bob2: newKey(t), carol: newKey(t), eve: newKey(t)}
	p.file = "alice " + p.alice.Public() + "\nbob " + p.bob.Public() + "\nbob " + p.bob2.Public() +
		"\ncarol,carola " + p.carol.Public() + "\n"
	allowed, err := signing.ParseAllowedSigners("allowed_signers", []byte(p.file))
	if err != nil {
		t.Fatal(err)
	}
	p.allowed = allowed
	return p
}

func newKey(t *testing.T) *signing.Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := signing.LoadKey(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var waiting = fleet.Plan{
	ID: "p2", Action: fleet.ActionApply, App: fleet.AppName{Namespace: "shop", Name: "guestbook"},
	Cluster: "prod", ClusterUID: "uid-prod", From: "sha256:aa", To: "sha256:bb",
}

func statement(approver string, change func(*fleet.Approval)) fleet.Approval {
	a := fleet.Approval{
		Action: fleet.ActionApply, App: "shop/guestbook", Approver: approver,
		Targets:   []fleet.Target{{ClusterUID: "uid-prod", Cluster: "prod", From: "sha256:aa", To: "sha256:bb", Plan: "p2"}},
		NotBefore: now.Add(-time.Minute), Expires: now.Add(time.Hour),
	}
	if change != nil {
		change(&a)
	}
	return a
}

func sign(t *testing.T, key *signing.Key, a fleet.Approval) fleet.SignedApproval {
	t.Helper()
	s, err := signing.SignApproval(a, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneApproverOpensTheGate(t *testing.T) {
	p := newPeople(t)
	in := gate.Input{
		Plan: waiting, Demands: []gate.Demand{{Approvers: []string{"alice"}, Quorum: 1}},
		Allowed: p.allowed, Now: now,
	}
	if d := gate.Decide(in); d.Open || d.Message != "waits for approval (0 of 1)" {
		t.Errorf("nobody approved: %+v", d)
	}
	in.Approvals = []fleet.SignedApproval{sign(t, p.alice, statement("alice", nil))}
	if d := gate.Decide(in); !d.Open || d.Message != "" || !slices.Equal(d.ApprovedBy, []string{"alice"}) || d.Have != 1 || d.Need != 1 {
		t.Errorf("alice approved: %+v", d)
	}
}

func TestNothingIsAskedWhereNoRuleMatches(t *testing.T) {
	if d := gate.Decide(gate.Input{Plan: waiting, Now: now}); !d.Open {
		t.Errorf("%+v", d)
	}
}

func TestApprovalsAreRefusedWithTheirReason(t *testing.T) {
	p := newPeople(t)
	good := sign(t, p.alice, statement("alice", nil))
	target := func(f func(*fleet.Target)) fleet.SignedApproval {
		return sign(t, p.alice, statement("alice", func(a *fleet.Approval) { f(&a.Targets[0]) }))
	}
	for _, test := range []struct {
		name     string
		approval fleet.SignedApproval
		used     string
		reason   error
		message  string // after "waits for approval (0 of 1); an approval "
	}{
		{"unsigned", fleet.SignedApproval{Statement: good.Statement}, "", signing.ErrUnsigned, "in the name of alice was refused: it is not signed"},
		{
			"a key that is not pinned", sign(t, p.eve, statement("alice", nil)), "", signing.ErrNotPinned,
			"in the name of alice was refused: its key " + p.eve.Fingerprint() + " is not pinned at this cluster",
		},
		{
			"somebody else's key", sign(t, p.bob, statement("alice", nil)), "", signing.ErrOtherPerson,
			"in the name of alice was refused: its key " + p.bob.Fingerprint() + " is pinned for bob, not for alice",
		},
		{
			"not an approver", sign(t, p.bob, statement("bob", nil)), "", gate.ErrNotApprover,
			"by bob was refused: bob is not among the approvers (alice)",
		},
		{
			"a stale plan", target(func(t *fleet.Target) { t.Plan = "p1" }), "", gate.ErrStalePlan,
			"by alice was refused: it is for plan p1, which is no longer the plan",
		},
		{
			"other wanted content", target(func(t *fleet.Target) { t.To = "sha256:cc" }), "", gate.ErrOtherDigest,
			"by alice was refused: it is for other content than the plan's (from sha256:aa to sha256:cc)",
		},
		{
			"other applied content", target(func(t *fleet.Target) { t.From = "" }), "", gate.ErrOtherDigest,
			"by alice was refused: it is for other content than the plan's (from nothing to sha256:bb)",
		},
		{
			"another cluster's", target(func(t *fleet.Target) { t.ClusterUID, t.Cluster = "uid-dev", "dev" }), "", gate.ErrOtherCluster,
			"by alice was refused: it is for cluster dev, and this is prod",
		},
		{
			"another cluster of that name", target(func(t *fleet.Target) { t.ClusterUID = "uid-old" }), "", gate.ErrOtherCluster,
			"by alice was refused: it is for another cluster that was named prod too",
		},
		{
			"expired", sign(t, p.alice, statement("alice", func(a *fleet.Approval) { a.Expires = now.Add(-time.Second) })), "", signing.ErrExpired,
			"by alice was refused: it expired at 2026-05-04T11:59:59Z",
		},
		{
			"not yet valid", sign(t, p.alice, statement("alice", func(a *fleet.Approval) { a.NotBefore = now.Add(time.Minute) })), "", signing.ErrNotYetValid,
			"by alice was refused: it is valid from 2026-05-04T12:01:00Z on only",
		},
		{
			"replayed", target(func(t *fleet.Target) { t.Plan = "p1" }), "p1", gate.ErrUsed,
			"by alice was refused: plan p1 was let through once already, and an approval counts once",
		},
		{
			"another action", sign(t, p.alice, statement("alice", func(a *fleet.Approval) { a.Action = fleet.ActionRemove })), "", gate.ErrOtherAction,
			`by alice was refused: it is for "remove", and the plan is to "apply"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := gate.Decide(gate.Input{
				Plan: waiting, Demands: []gate.Demand{{Approvers: []string{"alice"}, Quorum: 1}}, Allowed: p.allowed,
				Approvals: []fleet.SignedApproval{test.approval}, Used: map[string]bool{test.used: true}, Now: now,
			})
			if d.Open || len(d.ApprovedBy) > 0 {
				t.Fatalf("the gate is open: %+v", d)
			}
			if len(d.Refused) != 1 || !errors.Is(d.Refused[0].Reason, test.reason) {
				t.Errorf("refused %+v, want %v", d.Refused, test.reason)
			}
			if want := "waits for approval (0 of 1); an approval " + test.message; d.Message != want {
				t.Errorf("message\n%s, want\n%s", d.Message, want)
			}
		})
	}
}

func TestApprovalsOfOtherAppsAreNotMentioned(t *testing.T) {
	p := newPeople(t)
	other := sign(t, p.alice, statement("alice", func(a *fleet.Approval) { a.App = "shop/cart" }))
	d := gate.Decide(gate.Input{
		Plan: waiting, Demands: []gate.Demand{{Approvers: []string{"alice"}, Quorum: 1}}, Allowed: p.allowed,
		Approvals: []fleet.SignedApproval{other, {Statement: []byte("noise")}}, Now: now,
	})
	if d.Open || len(d.Refused) != 0 || d.Message != "waits for approval (0 of 1)" {
		t.Errorf("%+v", d)
	}
}

func TestAUsedPlanNeverOpensAgain(t *testing.T) {
	p := newPeople(t)
	d := gate.Decide(gate.Input{
		Plan: waiting, Demands: []gate.Demand{{Approvers: []string{"alice"}, Quorum: 1}}, Allowed: p.allowed,
		Approvals: []fleet.SignedApproval{sign(t, p.alice, statement("alice", nil))}, Used: map[string]bool{"p2": true}, Now: now,
	})
	if d.Open || !strings.Contains(d.Message, "a new plan must be made") {
		t.Errorf("%+v", d)
	}
}

func TestAUsedApprovalIsMentionedLast(t *testing.T) {
	p := newPeople(t)
	used := sign(t, p.alice, statement("alice", func(a *fleet.Approval) { a.Targets[0].Plan = "p1"; a.NotBefore = now }))
	d := gate.Decide(gate.Input{
		Plan: waiting, Demands: []gate.Demand{{Approvers: []string{"alice"}, Quorum: 1}}, Allowed: p.allowed,
		Approvals: []fleet.SignedApproval{used, sign(t, p.bob, statement("bob", nil)), used}, Used: map[string]bool{"p1": true}, Now: now,
	})
	if !strings.Contains(d.Message, "bob is not among the approvers") {
		t.Errorf("message %q", d.Message)
	}
}

func TestOfSeveralRefusalsTheLatestIsExplained(t *testing.T) {
	p := newPeople(t)
	at := func(when time.Time, approver string, key *signing.Key) fleet.SignedApproval {
		return sign(t, key, statement(approver, func(a *fleet.Approval) { a.NotBefore = when }))
	}
	since := now.Add(-time.Minute)
	used := sign(t, p.alice, statement("alice", func(a *fleet.Approval) {
		a.Targets[0].Plan, a.NotBefore = "p1", since.Add(-time.Minute)
	}))
	for _, c := range []struct {
		name      string
		approvals []fleet.SignedApproval
		want      string
	}{
		{"made later", []fleet.SignedApproval{at(now, "bob", p.bob), at(since, "carol", p.carol)}, "bob is not among"},
		{"in one second, came later", []fleet.SignedApproval{at(now, "bob", p.bob), at(now, "carol", p.carol)}, "carol is not among"},
		{"used, after refusals for an earlier plan", []fleet.SignedApproval{at(since.Add(-time.Hour), "bob", p.bob), used}, "let through once"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := waiting
			plan.Created = since
			d := gate.Decide(gate.Input{
				Plan: plan, Demands: []gate.Demand{{Approvers: []string{"alice"}, Quorum: 1}}, Allowed: p.allowed,
				Approvals: c.approvals, Used: map[string]bool{"p1": true}, Now: now,
			})
			if !strings.Contains(d.Message, c.want) {
				t.Errorf("message %q, want %q", d.Message, c.want)
			}
		})
	}
}

func TestQuorumCountsPeople(t *testing.T) {
	p := newPeople(t)
	everybody := []string{"alice", "bob", "carol", "carola"}
	alice, bob, bob2 := sign(t, p.alice, statement("alice", nil)), sign(t, p.bob, statement("bob", nil)), sign(t, p.bob2, statement("bob", nil))
	carol, carola := sign(t, p.carol, statement("carol", nil)), sign(t, p.carol, statement("carola", nil))
	for _, test := range []struct {
		name       string
		demands    []gate.Demand
		approvals  []fleet.SignedApproval
		open       bool
		have, need int
	}{
		{"two people", []gate.Demand{{everybody, 2}}, []fleet.SignedApproval{alice, bob}, true, 2, 2},
		{"one approval sent twice", []gate.Demand{{everybody, 2}}, []fleet.SignedApproval{alice, alice}, false, 1, 2},
		{"one person with two keys", []gate.Demand{{everybody, 2}}, []fleet.SignedApproval{bob, bob2}, false, 1, 2},
		{"one key with two names", []gate.Demand{{everybody, 2}}, []fleet.SignedApproval{carol, carola}, false, 1, 2},
		{"the person under another name", []gate.Demand{{[]string{"carol"}, 1}}, []fleet.SignedApproval{carola}, true, 1, 1},
		{"both demands by one person", []gate.Demand{{[]string{"alice"}, 1}, {everybody, 1}}, []fleet.SignedApproval{alice}, true, 1, 1},
		{"one of two demands", []gate.Demand{{[]string{"alice"}, 1}, {[]string{"bob"}, 1}}, []fleet.SignedApproval{alice}, false, 0, 1},
		{"the demand that lacks more is told", []gate.Demand{{[]string{"alice"}, 1}, {everybody, 3}}, []fleet.SignedApproval{alice}, false, 1, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := gate.Decide(gate.Input{Plan: waiting, Demands: test.demands, Allowed: p.allowed, Approvals: test.approvals, Now: now})
			if d.Open != test.open || d.Have != test.have || d.Need != test.need {
				t.Errorf("open %v, %d of %d; want %v, %d of %d (%s)", d.Open, d.Have, d.Need, test.open, test.have, test.need, d.Message)
			}
		})
	}
}

func TestADemandNobodyCanMeetSaysSo(t *testing.T) {
	p := newPeople(t)
	d := gate.Decide(gate.Input{Plan: waiting, Demands: []gate.Demand{{[]string{"zoe"}, 1}}, Allowed: p.allowed, Now: now})
	if want := "waits for approval (0 of 1); only 0 of the approvers asked for (zoe) have a key pinned at this cluster"; d.Open || d.Message != want {
		t.Errorf("message %q", d.Message)
	}
}

func TestAMessageKeepsStrangersShortAndPrintable(t *testing.T) {
	p := newPeople(t)
	name := "x\x1b[31m" + strings.Repeat("y", 5000)
	d := gate.Decide(gate.Input{
		Plan: waiting, Demands: []gate.Demand{{[]string{"alice"}, 1}}, Allowed: p.allowed, Now: now,
		Approvals: []fleet.SignedApproval{sign(t, p.eve, statement(name, nil))},
	})
	if strings.Contains(d.Message, "\x1b") || len(d.Message) > 500 {
		t.Errorf("message %q", d.Message)
	}
}

func TestDemandsAreTheRulesAndTheAppsOwn(t *testing.T) {
	p := newPeople(t)
	policy := gate.Policy{Allowed: p.allowed, Rules: []gate.Rule{
		{Apps: gate.AppMatch{MatchNames: []string{"shop/*"}}, Approvers: []string{"alice"}},
		{Apps: gate.AppMatch{MatchNames: []string{"*/guestbook"}}, Approvers: []string{"bob", "carol"}, Quorum: 2},
		{Apps: gate.AppMatch{MatchNames: []string{"infra/*"}}, Approvers: []string{"bob"}},
	}}
	for _, test := range []struct {
		app  fleet.AppName
		from *gate.AppApproval
		want []int // quorums
	}{
		{waiting.App, nil, []int{1, 2}},
		{waiting.App, &gate.AppApproval{Approvers: []string{"zoe"}, Quorum: 3}, []int{1, 2, 3}},
		{fleet.AppName{Namespace: "dev", Name: "toy"}, nil, nil},
		{fleet.AppName{Namespace: "dev", Name: "toy"}, &gate.AppApproval{}, []int{1}},
	} {
		var got []int
		demands := policy.Demands(test.app, test.from)
		for _, d := range demands {
			got = append(got, d.Quorum)
			if len(d.Approvers) == 0 {
				t.Errorf("%s: a demand without approvers", test.app)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: quorums %v, want %v", test.app, got, test.want)
		}
	}
	if all := (gate.Policy{Rules: []gate.Rule{{Approvers: []string{"alice"}}}}).Demands(waiting.App, nil); len(all) != 1 {
		t.Error("a rule without matchNames does not match all apps")
	}
}

func TestPolicyRefusesRulesThatCannotBeMet(t *testing.T) {
	p := newPeople(t)
	rule := func(r gate.Rule) gate.Config { return gate.Config{Rules: []gate.Rule{r}, AllowedSigners: p.file} }
	for _, test := range []struct {
		name   string
		config gate.Config
		want   string
	}{
		{"an unknown approver", rule(gate.Rule{Approvers: []string{"zoe"}}), `approval.rules[0]: approver "zoe" has no key among the allowed signers`},
		{"nobody", rule(gate.Rule{}), "approval.rules[0]: it names no approvers"},
		{"too large a quorum", rule(gate.Rule{Approvers: []string{"alice"}, Quorum: 2}), "quorum is 2, but its approvers make 1"},
		{"a quorum of one person's names", rule(gate.Rule{Approvers: []string{"carol", "carola"}, Quorum: 2}), "quorum is 2, but its approvers make 1"},
		{"a negative quorum", rule(gate.Rule{Approvers: []string{"alice"}, Quorum: -1}), "not a number of people"},
		{"a pattern that matches nothing", rule(gate.Rule{Approvers: []string{"alice"}, Apps: gate.AppMatch{MatchNames: []string{"*"}}}), `"*" is not a pattern over namespace/name`},
		{"a broken pattern", rule(gate.Rule{Approvers: []string{"alice"}, Apps: gate.AppMatch{MatchNames: []string{"a/["}}}), "is not a pattern"},
		{"keys in two places", gate.Config{AllowedSigners: "x", AllowedSignersFile: "y"}, "keep one"},
		{"a bad key file", gate.Config{AllowedSigners: "x"}, "approval.allowedSigners:1: "},
		{"no key file", gate.Config{AllowedSignersFile: "missing"}, "allowedSignersFile: missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.config.Policy(func(file string) ([]byte, error) { return nil, errors.New(file) })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want ...%s...", err, test.want)
			}
		})
	}
	config := gate.Config{AllowedSignersFile: "f", Rules: []gate.Rule{{Approvers: []string{"alice", "bob"}, Quorum: 2}}}
	policy, err := config.Policy(func(string) ([]byte, error) { return []byte(p.file), nil })
	if err != nil || len(policy.Rules) != 1 || len(policy.Allowed.Principals()) != 4 {
		t.Errorf("a good one: %+v, error %v", policy, err)
	}
}
