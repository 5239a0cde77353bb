package hub_test

import (
	"context"
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
	git     []fleet.Push
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

func (w *wires) GitPushed(p fleet.Push) error {
	w.git = append(w.git, p)
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
		Joins: s.Bucket(store.Joins), Approvals: s.Bucket(store.Approvals), Audit: s.Log(), Changes: s.Changes(), View: view.New(), Link: o.link, Now: o.clock.Now,
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
