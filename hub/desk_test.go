package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

var (
	start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	web   = fleet.AppName{Namespace: "shop", Name: "web"}
)

// clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wires is a link that notes what it is given, and answers asks from parts.
type wires struct {
	mu      sync.Mutex
	pushed  map[string][]fleet.Intent
	revoked []string
	git     []string
	answer  func(a wire.Ask) (wire.Part, error)
}

var _ desk.Link = (*wires)(nil)

func (w *wires) JoinUser(join string, _ time.Time) (string, string, error) {
	return "jwt-" + join, "seed", nil
}
func (w *wires) Address() ([]string, string) { return []string{"nats://hub:4222"}, "pem" }
func (w *wires) Revoke(_ context.Context, key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.revoked = append(w.revoked, key)
	return nil
}

func (w *wires) PushIntent(cluster string, in fleet.Intent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushed[cluster] = append(w.pushed[cluster], in)
	return nil
}

func (w *wires) Ask(_ context.Context, _ string, a wire.Ask) (wire.Part, error) { return w.answer(a) }
func (w *wires) GitPushed(url string) error {
	w.git = append(w.git, url)
	return nil
}

func (w *wires) last(cluster string) fleet.Intent {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.pushed[cluster]
	if len(all) == 0 {
		return fleet.Intent{}
	}
	return all[len(all)-1]
}

// office is a desk with everything around it in memory.
type office struct {
	*desk.Desk
	spokes *desk.Spokes
	store  *store.Memory
	link   *wires
	clock  *clock
}

func newOffice(t *testing.T) *office {
	t.Helper()
	return (&office{store: store.NewMemory(), link: &wires{pushed: map[string][]fleet.Intent{}}, clock: &clock{now: start}}).open(t)
}

// open opens the desk on what is stored, as a hub that starts does.
func (o *office) open(t *testing.T) *office {
	t.Helper()
	s := o.store
	d, spokes, err := desk.New(t.Context(), desk.Config{
		Instance: "hub1", Intents: s.Bucket(store.Intent), Statuses: s.Bucket(store.Status), Clusters: s.Bucket(store.Clusters),
		Joins: s.Bucket(store.Joins), Approvals: s.Bucket(store.Approvals), Audit: s.Log(), View: view.New(), Link: o.link, Now: o.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &office{Desk: d, spokes: spokes, store: s, link: o.link, clock: o.clock}
}

// join makes a token and returns its id.
func (o *office) join(t *testing.T, cluster string) string {
	t.Helper()
	grant, err := o.Join(t.Context(), cluster, 0)
	if err != nil {
		t.Fatal(err)
	}
	token, err := wire.ParseJoinToken(grant.Token)
	if err != nil {
		t.Fatal(err)
	}
	return token.Join
}

// enrolled has a cluster with an agent that has said hello.
func (o *office) enrolled(t *testing.T, cluster string) {
	t.Helper()
	if _, err := o.spokes.Enrol(t.Context(), o.join(t, cluster), "key-"+cluster); err != nil {
		t.Fatal(err)
	}
	o.beat(t, cluster, 1)
}

func (o *office) beat(t *testing.T, cluster string, epoch uint64) wire.HeartbeatAck {
	t.Helper()
	ack, err := o.spokes.Heartbeat(t.Context(), cluster, wire.Heartbeat{Epoch: epoch, Cluster: fleet.ClusterReport{
		UID: "uid-" + cluster, AgentKey: "whatever it says", Interval: 10 * time.Second,
		Declared: map[string]string{"zone": "a"}, Assignable: []string{"env", "tier"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

func (o *office) report(t *testing.T, cluster string, epoch, seq uint64, message string) error {
	t.Helper()
	return o.spokes.Report(t.Context(), cluster, reportOf(epoch, seq, web.Name, message))
}

func reportOf(epoch, seq uint64, name, message string) wire.Report {
	return wire.Report{Epoch: epoch, Seq: seq, App: &fleet.AppStatus{
		Namespace: "shop", App: name, Sync: fleet.Pending, Health: fleet.Healthy, Message: message,
		Pending: &fleet.PendingPlan{Plan: "plan-" + name},
	}}
}

func (o *office) messages(t *testing.T, cluster string) string {
	t.Helper()
	apps, err := o.Apps(t.Context(), fleet.AppFilter{Clusters: []string{cluster}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range apps {
		out = append(out, a.App+":"+a.Message)
	}
	return strings.Join(out, " ")
}

func TestAJoinTokenIsForOneKeyOnce(t *testing.T) {
	o := newOffice(t)
	id := o.join(t, "dev")
	if cluster, err := o.spokes.Enrol(t.Context(), id, "key1"); err != nil || cluster != "dev" {
		t.Fatal(cluster, err)
	}
	if _, err := o.spokes.Enrol(t.Context(), id, "key1"); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := o.spokes.Enrol(t.Context(), id, "key2"); !errors.Is(err, fleet.ErrForbidden) || fleet.Hint(err) == "" {
		t.Errorf("another key: got %v, want ErrForbidden with a hint", err)
	}
	if _, err := o.spokes.Enrol(t.Context(), "nosuch", "key1"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("an unknown token: got %v, want ErrForbidden", err)
	}
	if _, err := o.Join(t.Context(), "dev", 0); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a token for an enrolled cluster: got %v, want ErrConflict", err)
	}
}

func TestAJoinTokenExpires(t *testing.T) {
	o := newOffice(t)
	grant, err := o.Join(t.Context(), "dev", time.Minute)
	if err != nil || !grant.Expires.Equal(start.Add(time.Minute)) {
		t.Fatal(grant, err)
	}
	token, err := wire.ParseJoinToken(grant.Token)
	if err != nil || token.Cluster != "dev" || token.Instance != "hub1" || token.CA != "pem" || token.URLs[0] != "nats://hub:4222" {
		t.Errorf("token: %+v, %v", token, err)
	}
	o.clock.pass(time.Minute + time.Second)
	if _, err := o.spokes.Enrol(t.Context(), token.Join, "key1"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
	for _, ttl := range []time.Duration{-1, time.Millisecond, 2 * time.Hour} {
		if _, err := o.Join(t.Context(), "dev", ttl); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("ttl %s: got %v, want ErrInvalid", ttl, err)
		}
	}
	if _, err := o.Join(t.Context(), "*", 0); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("a wildcard for a name: got %v, want ErrInvalid", err)
	}
}

func TestTwoTokensOneCluster(t *testing.T) {
	o := newOffice(t)
	first, second := o.join(t, "dev"), o.join(t, "dev")
	if _, err := o.spokes.Enrol(t.Context(), first, "key1"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.spokes.Enrol(t.Context(), second, "key2"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func TestLabelsReachTheAgentAsIntent(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	c, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "dev", "tier": "gold"}, nil)
	if err != nil || c.Labels["env"] != "dev" || c.Labels["zone"] != "a" || c.Assigned["tier"] != "gold" {
		t.Fatal(c, err)
	}
	if in := o.link.last("dev"); in.Instance != "hub1" || in.Revision != 1 || in.Labels["env"] != "dev" {
		t.Errorf("pushed %+v", in)
	}
	if _, err := o.LabelCluster(t.Context(), "dev", nil, []string{"env"}); err != nil {
		t.Fatal(err)
	}
	in := o.link.last("dev")
	if _, there := in.Labels["env"]; there || in.Revision != 2 || fmt.Sprint(in.Removed) != "[env]" {
		t.Errorf("a removal must be said, pushed %+v", in)
	}
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "qa"}, nil); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Removed) != 0 || in.Labels["env"] != "qa" {
		t.Errorf("set again: pushed %+v", in)
	}
	if ack := o.beat(t, "dev", 1); ack.Revision != 3 {
		t.Errorf("the heartbeat's answer says revision %d", ack.Revision)
	}
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "qa"}, nil); err != nil {
		t.Fatal(err)
	}
	if ack := o.beat(t, "dev", 1); ack.Revision != 3 {
		t.Errorf("what changes nothing raised the revision to %d", ack.Revision)
	}
}

func TestASpokeDecidesWhatMayBeAssigned(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	for _, c := range []struct {
		name    string
		cluster string
		set     map[string]string
		remove  []string
		want    error
		says    string
	}{
		{"declared", "dev", map[string]string{"zone": "b"}, nil, fleet.ErrConflict, "zone is declared at the spoke and can't be changed from the hub"},
		{"declared, removed", "dev", nil, []string{"zone"}, fleet.ErrConflict, "zone is declared at the spoke"},
		{"not assignable", "dev", map[string]string{"team": "x"}, nil, fleet.ErrConflict, "team is not assignable"},
		{"one of two", "dev", map[string]string{"env": "x", "team": "x"}, nil, fleet.ErrConflict, "team"},
		{"unknown cluster", "nowhere", map[string]string{"env": "x"}, nil, fleet.ErrNotFound, "nowhere"},
		{"bad key", "dev", map[string]string{"a b": "x"}, nil, fleet.ErrInvalid, "a b"},
		{"bad value", "dev", map[string]string{"env": "a b"}, nil, fleet.ErrInvalid, "a b"},
		{"both ways", "dev", map[string]string{"env": "x"}, []string{"env"}, fleet.ErrInvalid, "at once"},
		{"nothing", "dev", nil, nil, fleet.ErrInvalid, "no label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := o.LabelCluster(t.Context(), c.cluster, c.set, c.remove)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v saying %q", err, c.want, c.says)
			}
			if errors.Is(err, fleet.ErrConflict) && fleet.Hint(err) == "" {
				t.Error("it has no hint")
			}
		})
	}
	if in := o.link.last("dev"); in.Revision != 0 {
		t.Errorf("something was pushed: %+v", in)
	}
}

func TestOlderReportsAreRefused(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	o.beat(t, "dev", 5)
	for _, r := range []struct {
		epoch, seq uint64
		ok         bool
	}{{5, 2, true}, {5, 1, false}, {5, 2, false}, {4, 9, false}, {6, 1, false}, {5, 3, true}} {
		err := o.report(t, "dev", r.epoch, r.seq, fmt.Sprint(r.epoch, ".", r.seq))
		if (err == nil) != r.ok || err != nil && !errors.Is(err, fleet.ErrConflict) {
			t.Errorf("%d.%d: got %v", r.epoch, r.seq, err)
		}
	}
	if got := o.messages(t, "dev"); got != "web:5.3" {
		t.Errorf("got %s", got)
	}
	if ack := o.beat(t, "dev", 3); ack.Epoch != 5 {
		t.Errorf("an old process is told epoch %d, want 5", ack.Epoch)
	}
	gone := wire.Report{Epoch: 5, Seq: 4, Gone: &web}
	if err := o.spokes.Report(t.Context(), "dev", gone); err != nil {
		t.Fatal(err)
	}
	if err := o.report(t, "dev", 5, 3, "back from the dead"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a report older than the app's end: got %v, want ErrConflict", err)
	}
	if got := o.messages(t, "dev"); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestWhatANewProcessDoesNotReportIsGone(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	for i, name := range []string{"web", "api"} {
		if err := o.spokes.Report(t.Context(), "dev", reportOf(1, uint64(i+1), name, "one")); err != nil {
			t.Fatal(err)
		}
	}
	o.beat(t, "dev", 2)
	if err := o.spokes.Report(t.Context(), "dev", reportOf(2, 1, "api", "two")); err != nil {
		t.Fatal(err)
	}
	if got := o.messages(t, "dev"); got != "api:two web:one" {
		t.Errorf("before all was sent: %s", got)
	}
	if err := o.spokes.Resent(t.Context(), "dev", wire.Resent{Epoch: 1}); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("of an old process: got %v, want ErrConflict", err)
	}
	if err := o.spokes.Resent(t.Context(), "dev", wire.Resent{Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	if got := o.messages(t, "dev"); got != "api:two" {
		t.Errorf("after: %s", got)
	}
	if got := o.open(t).messages(t, "dev"); got != "api:two" {
		t.Errorf("after a restart: %s", got)
	}
}

func TestARestartKeepsLabelsAndStatuses(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "dev"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.report(t, "dev", 1, 7, "well"); err != nil {
		t.Fatal(err)
	}
	o = o.open(t)
	cs, err := o.Clusters(t.Context(), fleet.ClusterFilter{Selector: "env=dev,zone=a"})
	if err != nil || len(cs) != 1 || cs[0].UID != "uid-dev" || cs[0].AgentKey != "key-dev" || cs[0].Apps.Pending != 1 || cs[0].Stale {
		t.Errorf("got %+v, %v", cs, err)
	}
	if err := o.report(t, "dev", 1, 6, "late"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a report from before the restart: got %v, want ErrConflict", err)
	}
	if ack := o.beat(t, "dev", 1); ack.Revision != 1 || ack.Epoch != 1 {
		t.Errorf("got %+v", ack)
	}
}

func TestARemovedClusterIsCutAndForgotten(t *testing.T) {
	o := newOffice(t)
	id := o.join(t, "dev")
	if _, err := o.spokes.Enrol(t.Context(), id, "key-dev"); err != nil {
		t.Fatal(err)
	}
	o.beat(t, "dev", 3)
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "dev"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.report(t, "dev", 3, 1, "well"); err != nil {
		t.Fatal(err)
	}
	pushed := o.link.last("dev").Revision
	if err := o.RemoveCluster(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*office{o, o.open(t)} {
		if fmt.Sprint(o.link.revoked) != "[key-dev]" || o.link.last("dev").Revision != pushed {
			t.Errorf("revoked %v; the agent must not be told to take labels away", o.link.revoked)
		}
		if got := o.messages(t, "dev"); got != "" {
			t.Errorf("its apps are there: %s", got)
		}
		if _, err := o.spokes.Heartbeat(t.Context(), "dev", wire.Heartbeat{Epoch: 4}); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("a heartbeat: got %v, want ErrForbidden", err)
		}
		if err := o.report(t, "dev", 3, 2, "zombie"); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("a report: got %v, want ErrForbidden", err)
		}
		if _, err := o.spokes.Enrol(t.Context(), id, "key-dev"); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("the old token: got %v, want ErrForbidden", err)
		}
		if err := o.RemoveCluster(t.Context(), "dev"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("again: got %v, want ErrNotFound", err)
		}
	}
	// It may come back, with nothing of what was assigned, and its agent will
	// see that its epoch has been used.
	o = o.open(t)
	if _, err := o.spokes.Enrol(t.Context(), o.join(t, "dev"), "key2"); err != nil {
		t.Fatal(err)
	}
	ack := o.beat(t, "dev", 1)
	in, err := o.spokes.Intent(t.Context(), "dev")
	if err != nil || in.Revision <= pushed || len(in.Labels) != 0 || fmt.Sprint(in.Removed) != "[env]" || ack.Epoch != 3 {
		t.Errorf("got %+v, %v, %+v", in, err, ack)
	}
}

func TestAnUnknownClusterIsNotServed(t *testing.T) {
	o := newOffice(t)
	if _, err := o.spokes.Heartbeat(t.Context(), "ghost", wire.Heartbeat{Epoch: 1}); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
	if cs, err := o.Clusters(t.Context(), fleet.ClusterFilter{}); err != nil || len(cs) != 0 {
		t.Errorf("got %+v, %v", cs, err)
	}
	o.enrolled(t, "dev")
	if err := o.spokes.MayRenew(t.Context(), "dev", "key-dev"); err != nil {
		t.Error(err)
	}
	if err := o.spokes.MayRenew(t.Context(), "dev", "key2"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
}

func approval(clusters ...string) fleet.SignedApproval {
	a := fleet.Approval{Action: fleet.ActionApply, App: web.String(), Approver: "ada@example.com", NotBefore: start, Expires: start.Add(time.Hour)}
	for _, c := range clusters {
		a.Targets = append(a.Targets, fleet.Target{ClusterUID: "uid-" + c, Cluster: c, To: "sha256:x", Plan: "plan-web"})
	}
	b, err := fleet.Canonical(a)
	if err != nil {
		panic(err)
	}
	return fleet.SignedApproval{Statement: b, Signature: "-----BEGIN SSH SIGNATURE-----"}
}

func TestAnApprovalIsPassedOnToTheClustersItNames(t *testing.T) {
	o := newOffice(t)
	for _, c := range []string{"dev", "prod", "edge"} {
		o.enrolled(t, c)
	}
	a := approval("dev", "prod")
	for range 2 { // twice is once
		if err := o.Approve(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for cluster, want := range map[string]int{"dev": 1, "prod": 1, "edge": 0} {
		in := o.link.last(cluster)
		if len(in.Approvals) != want || want == 1 && string(in.Approvals[0].Statement) != string(a.Statement) {
			t.Errorf("%s: got %+v", cluster, in)
		}
	}
	o.clock.pass(2 * time.Hour)
	o.beat(t, "dev", 1)
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Approvals) != 0 {
		t.Errorf("an expired approval is still passed on: %+v", in)
	}
}

func TestAnApprovalThatMakesNoSenseIsRefused(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	ok := approval("dev")
	for name, c := range map[string]struct {
		a    fleet.SignedApproval
		want error
	}{
		"no JSON":           {fleet.SignedApproval{Statement: []byte("{"), Signature: "s"}, fleet.ErrInvalid},
		"no target":         {approvalOf(t, func(a *fleet.Approval) { a.Targets = nil }), fleet.ErrInvalid},
		"too long a life":   {approvalOf(t, func(a *fleet.Approval) { a.Expires = start.Add(8 * 24 * time.Hour) }), fleet.ErrInvalid},
		"expired":           {approvalOf(t, func(a *fleet.Approval) { a.NotBefore = start.Add(-2 * time.Hour); a.Expires = start.Add(-time.Hour) }), fleet.ErrInvalid},
		"an unknown action": {approvalOf(t, func(a *fleet.Approval) { a.Action = "sudo" }), fleet.ErrInvalid},
		"not signed":        {fleet.SignedApproval{Statement: ok.Statement}, fleet.ErrInvalid},
		"too long":          {fleet.SignedApproval{Statement: ok.Statement, Signature: strings.Repeat("x", 100000)}, fleet.ErrInvalid},
		"unknown cluster":   {approval("dev", "nowhere"), fleet.ErrNotFound},
	} {
		if err := o.Approve(t.Context(), c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if in := o.link.last("dev"); in.Revision != 0 {
		t.Errorf("something was pushed: %+v", in)
	}
}

func approvalOf(t *testing.T, alter func(*fleet.Approval)) fleet.SignedApproval {
	t.Helper()
	var a fleet.Approval
	if err := json.Unmarshal(approval("dev").Statement, &a); err != nil {
		t.Fatal(err)
	}
	alter(&a)
	b, err := fleet.Canonical(a)
	if err != nil {
		t.Fatal(err)
	}
	return fleet.SignedApproval{Statement: b, Signature: "s"}
}

func TestSyncAsksThoseThatHaveTheApp(t *testing.T) {
	o := newOffice(t)
	for _, c := range []string{"dev", "prod", "edge"} {
		o.enrolled(t, c)
	}
	for _, c := range []string{"dev", "prod"} {
		if err := o.report(t, c, 1, 1, "well"); err != nil {
			t.Fatal(err)
		}
	}
	asked, err := o.Sync(t.Context(), web, nil)
	if err != nil || fmt.Sprint(asked) != "[dev prod]" {
		t.Fatal(asked, err)
	}
	if in := o.link.last("prod"); len(in.Syncs) != 1 || in.Syncs[0].App != web || in.Syncs[0].ID == "" {
		t.Errorf("pushed %+v", in)
	}
	if asked, err := o.Sync(t.Context(), web, []string{"dev"}); err != nil || fmt.Sprint(asked) != "[dev]" {
		t.Error(asked, err)
	}
	for _, clusters := range [][]string{{"edge"}, {"dev", "edge"}, {"nowhere"}} {
		if _, err := o.Sync(t.Context(), web, clusters); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("%v: got %v, want ErrNotFound", clusters, err)
		}
	}
	if _, err := o.Sync(t.Context(), fleet.AppName{Namespace: "shop", Name: "nosuch"}, nil); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	o.clock.pass(11 * time.Minute)
	if _, err := o.Sync(t.Context(), web, []string{"dev"}); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Syncs) != 1 {
		t.Errorf("old wishes are still passed on: %+v", in.Syncs)
	}
	for range 100 {
		if _, err := o.Sync(t.Context(), web, []string{"dev"}); err != nil {
			t.Fatal(err)
		}
	}
	if in := o.link.last("dev"); len(in.Syncs) > 64 {
		t.Errorf("%d wishes pile up", len(in.Syncs))
	}
}

func TestRejectingNotesItAtTheSpoke(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	if err := o.report(t, "dev", 1, 1, "waits"); err != nil {
		t.Fatal(err)
	}
	ctx := fleet.WithActor(t.Context(), "ada")
	if err := o.Reject(ctx, "dev", web, "plan-web", "too early"); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Rejected) != 1 || in.Rejected[0].By != "ada" || in.Rejected[0].Why != "too early" {
		t.Errorf("pushed %+v", in)
	}
	if err := o.Reject(ctx, "dev", web, "another", ""); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("another plan: got %v, want ErrNotFound", err)
	}
	if err := o.Reject(ctx, "dev", fleet.AppName{Namespace: "shop", Name: "api"}, "plan-web", ""); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("another app's plan: got %v, want ErrNotFound", err)
	}
}

func TestEveryChangeIsAudited(t *testing.T) {
	o := newOffice(t)
	ctx := fleet.WithActor(t.Context(), "ada")
	o.enrolled(t, "dev")
	if err := o.report(t, "dev", 1, 1, "waits"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.LabelCluster(ctx, "dev", map[string]string{"env": "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.Approve(ctx, approval("dev")); err != nil {
		t.Fatal(err)
	}
	if err := o.Reject(ctx, "dev", web, "plan-web", "no"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Sync(ctx, web, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.RemoveCluster(ctx, "dev"); err != nil {
		t.Fatal(err)
	}
	entries, err := o.store.Log().Last(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range entries {
		var e struct{ Actor, Action, Cluster string }
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if e.Cluster != "dev" {
			t.Errorf("%s names cluster %q", b, e.Cluster)
		}
		got = append(got, e.Actor+" "+e.Action)
		if strings.Contains(string(b), "seed") {
			t.Errorf("a secret is in the log: %s", b)
		}
	}
	if want := "hub join,hub enrol,ada label,ada approve,ada reject,ada sync,ada remove-cluster"; strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestAnAnswerIsPutTogetherFromItsParts(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	var want []fleet.HistoryEntry
	for i := range 50 {
		want = append(want, fleet.HistoryEntry{Digest: fleet.Digest(fmt.Sprint(i))})
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	changes := 1
	o.link.answer = func(a wire.Ask) (wire.Part, error) {
		etag := fmt.Sprint("e", changes)
		if a.Offset > 1000 && changes > 0 { // it changes while it is fetched
			changes--
			etag = "new"
		}
		return wire.Part{ETag: etag, Total: len(data), Data: data[a.Offset:min(a.Offset+700, len(data))]}, nil
	}
	got, err := o.History(t.Context(), "dev", web)
	if err != nil || len(got) != 50 || got[49].Digest != "49" {
		t.Errorf("got %d, %v", len(got), err)
	}
	for name, answer := range map[string]func(wire.Ask) (wire.Part, error){
		"always another": func(a wire.Ask) (wire.Part, error) {
			changes++
			return wire.Part{ETag: fmt.Sprint(changes), Total: 10, Data: []byte("x")}, nil
		},
		"never an end":      func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: 10}, nil },
		"more than it says": func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: 3, Data: []byte("12")}, nil },
		"no JSON":           func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: 2, Data: []byte("{]")}, nil },
	} {
		o.link.answer = answer
		if _, err := o.Tree(t.Context(), "dev", web); !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	o.link.answer = func(wire.Ask) (wire.Part, error) { return wire.Part{}, fleet.NotFound("nothing waits") }
	if _, err := o.Plan(t.Context(), "dev", web); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := o.Plan(t.Context(), "nowhere", web); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestAClustersQuotaIsItsOwn(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	o.enrolled(t, "prod")
	var refused error
	seq := uint64(0)
	for i := 0; i < 3000 && refused == nil; i++ {
		seq++
		refused = o.spokes.Report(t.Context(), "dev", reportOf(1, seq, fmt.Sprintf("a%d", i), ""))
	}
	if !errors.Is(refused, fleet.ErrInvalid) {
		t.Errorf("too many apps: got %v, want ErrInvalid", refused)
	}
	refused = nil
	for i := 0; i < 2000 && refused == nil; i++ {
		refused = o.spokes.Report(t.Context(), "prod", reportOf(1, uint64(i+1), fmt.Sprintf("a%d", i), strings.Repeat("x", 7000)))
	}
	if !errors.Is(refused, fleet.ErrInvalid) {
		t.Errorf("too many bytes: got %v, want ErrInvalid", refused)
	}
	o.enrolled(t, "edge")
	if err := o.report(t, "edge", 1, 1, "well"); err != nil {
		t.Errorf("another cluster: %v", err)
	}
}

func TestWatchersHearOfChanges(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	ctx, cancel := context.WithCancel(t.Context())
	c, err := o.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // coalesced
		if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": o.clock.Now().Format("x05")}, nil); err != nil {
			t.Fatal(err)
		}
		o.clock.pass(time.Second)
	}
	<-c
	select {
	case <-c:
		t.Error("what came at once is told twice")
	default:
	}
	cancel()
	if _, open := <-c; open {
		t.Error("the channel is not closed")
	}
}

func TestAPushIsPassedOn(t *testing.T) {
	o := newOffice(t)
	if err := o.GitPushed(t.Context(), "https://git.example.com/fleet.git"); err != nil || len(o.link.git) != 1 {
		t.Errorf("got %v, %v", o.link.git, err)
	}
	if err := o.GitPushed(t.Context(), "a\nb"); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
