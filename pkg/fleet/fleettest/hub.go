// Package fleettest has a fleet.Hub that works in memory, and the suite of
// tests that shows whether another one behaves as fleet.Hub promises.
package fleettest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var _ fleet.Hub = (*Hub)(nil)

// Key names one app on one cluster.
type Key struct {
	Cluster string
	App     fleet.AppName
}

// Seed is the fleet a hub begins with.
type Seed struct {
	Clusters   []fleet.Cluster
	Assignable []string // label keys that may be assigned; nil: all
	Apps       []fleet.AppStatus
	Plans      map[Key]fleet.SignedPlan
	History    map[Key][]fleet.HistoryEntry
	Trees      map[Key][]fleet.Object
	Changes    []fleet.Event // with ids that are numbers, in their order
}

// Call is one thing that was asked of a Hub and went well.
type Call struct {
	Method string
	Actor  string
	Detail string
}

// Hub is a hub without a network, a store or agents. It keeps what it is told.
type Hub struct {
	mu       sync.Mutex
	seed     Seed
	fail     error
	calls    []Call
	events   []fleet.Event
	version  int
	watchers map[chan string]struct{}
}

// NewHub makes a hub that begins with what seed says.
func NewHub(seed Seed) *Hub {
	seed.Clusters = slices.Clone(seed.Clusters)
	for i, c := range seed.Clusters {
		seed.Clusters[i].Labels = maps.Clone(c.Labels)
		seed.Clusters[i].Assigned = maps.Clone(c.Assigned)
	}
	seed.Apps = slices.Clone(seed.Apps)
	seed.Plans = maps.Clone(seed.Plans)
	return &Hub{seed: seed, watchers: map[chan string]struct{}{}}
}

// Fail makes every method return err from now on; nil ends that.
func (h *Hub) Fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

// Calls lists what changed something, in order.
func (h *Hub) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// SetApp puts one app's status in place, or in place of the one before.
func (h *Hub) SetApp(s fleet.AppStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.seed.Apps, func(o fleet.AppStatus) bool {
		return o.Cluster == s.Cluster && o.Name() == s.Name()
	}); i >= 0 {
		h.seed.Apps[i] = s
	} else {
		h.seed.Apps = append(h.seed.Apps, s)
	}
	h.notify()
}

// Watchers counts the watches that are open.
func (h *Hub) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers)
}

func (h *Hub) did(ctx context.Context, method, format string, a ...any) {
	h.calls = append(h.calls, Call{Method: method, Actor: fleet.Actor(ctx), Detail: fmt.Sprintf(format, a...)})
	h.notify()
}

// changed is did for what concerns clusters, with an event for each.
func (h *Hub) changed(ctx context.Context, action, app string, clusters ...string) {
	for _, c := range clusters {
		who := fleet.Who(ctx)
		h.events = append(h.events, fleet.Event{
			ID: strconv.Itoa(len(h.events) + 1), At: time.Now().UTC(), Actor: cmp.Or(who.Name, "hub"), Via: who.Via,
			From: fleet.Origin(ctx), Action: action, Cluster: c, App: app,
		})
	}
}

func (h *Hub) notify() {
	h.version++
	for w := range h.watchers {
		h.tell(w)
	}
}

func (h *Hub) tell(w chan string) {
	select {
	case <-w:
	default:
	}
	w <- h.viewVersion()
}

func (h *Hub) viewVersion() string { return fmt.Sprintf("%p-%d", h, h.version) }

// begin locks the hub; the caller unlocks it.
func (h *Hub) begin(ctx context.Context) error {
	h.mu.Lock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.fail
}

// Clusters implements fleet.Hub.
func (h *Hub) Clusters(ctx context.Context, f fleet.ClusterFilter) ([]fleet.Cluster, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	match, err := parseSelector(f.Selector)
	if err != nil {
		return nil, err
	}
	out := []fleet.Cluster{}
	for _, c := range h.seed.Clusters {
		if match(c.Labels) && (len(f.Names) == 0 || slices.Contains(f.Names, c.Cluster)) {
			c.Labels = maps.Clone(c.Labels)
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b fleet.Cluster) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return out, nil
}

// Apps implements fleet.Hub.
func (h *Hub) Apps(ctx context.Context, f fleet.AppFilter) ([]fleet.AppStatus, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	match, err := parseSelector(f.Selector)
	if err := errors.Join(err, f.Validate()); err != nil {
		return nil, err
	}
	out := []fleet.AppStatus{}
	for _, s := range h.seed.Apps {
		c := h.cluster(s.Cluster)
		if c == nil || !match(c.Labels) || !f.Matches(s) ||
			len(f.Clusters) > 0 && !slices.Contains(f.Clusters, s.Cluster) ||
			f.Namespace != "" && s.Namespace != f.Namespace || f.Name != "" && s.App != f.Name {
			continue
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b fleet.AppStatus) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Name().Compare(b.Name()))
	})
	return out, nil
}

// Plan implements fleet.Hub.
func (h *Hub) Plan(ctx context.Context, cluster string, app fleet.AppName) (fleet.SignedPlan, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return fleet.SignedPlan{}, err
	}
	if err := h.has(cluster, app); err != nil {
		return fleet.SignedPlan{}, err
	}
	p, ok := h.seed.Plans[Key{cluster, app}]
	if !ok {
		return fleet.SignedPlan{}, fleet.NotFound("app %s on cluster %q: nothing waits", app, cluster)
	}
	return p, nil
}

// History implements fleet.Hub.
func (h *Hub) History(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.HistoryEntry, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := h.has(cluster, app); err != nil {
		return nil, err
	}
	return append([]fleet.HistoryEntry{}, h.seed.History[Key{cluster, app}]...), nil
}

// Tree implements fleet.Hub.
func (h *Hub) Tree(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.Object, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := h.has(cluster, app); err != nil {
		return nil, err
	}
	return append([]fleet.Object{}, h.seed.Trees[Key{cluster, app}]...), nil
}

// Approve implements fleet.Hub. It relays: signatures are the spoke's to check.
func (h *Hub) Approve(ctx context.Context, a fleet.SignedApproval) error {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return err
	}
	var statement fleet.Approval
	if err := json.Unmarshal(a.Statement, &statement); err != nil {
		return fleet.Invalid("approval: %w", err)
	}
	if err := statement.Validate(); err != nil {
		return err
	}
	for _, t := range statement.Targets {
		if h.cluster(t.Cluster) == nil {
			return noCluster(t.Cluster)
		}
	}
	for _, t := range statement.Targets {
		h.changed(ctx, "approve", statement.App, t.Cluster)
	}
	h.did(ctx, "Approve", "%s\n%s", a.Statement, a.Signature)
	return nil
}

// Reject implements fleet.Hub.
func (h *Hub) Reject(ctx context.Context, cluster string, app fleet.AppName, plan, why string) error {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return err
	}
	if err := h.has(cluster, app); err != nil {
		return err
	}
	if s := h.app(cluster, app); s.Pending == nil || s.Pending.Plan != plan {
		return fleet.NotFound("app %s on cluster %q: plan %q does not wait", app, cluster, plan)
	}
	h.changed(ctx, "reject", app.String(), cluster)
	h.did(ctx, "Reject", "%s %s %s %q", cluster, app, plan, why)
	return nil
}

// Sync implements fleet.Hub.
func (h *Hub) Sync(ctx context.Context, app fleet.AppName, clusters []string) ([]string, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if _, err := fleet.ParseAppName(app.String()); err != nil {
		return nil, err
	}
	asked := []string{}
	for _, s := range h.seed.Apps {
		if s.Name() == app && (len(clusters) == 0 || slices.Contains(clusters, s.Cluster)) {
			asked = append(asked, s.Cluster)
		}
	}
	if len(asked) == 0 {
		return nil, fleet.NotFound("no cluster has app %s", app)
	}
	slices.Sort(asked)
	h.changed(ctx, "sync", app.String(), asked...)
	h.did(ctx, "Sync", "%s %v", app, asked)
	return asked, nil
}

// Watch implements fleet.Hub.
func (h *Hub) Watch(ctx context.Context, since string) (<-chan string, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	w := make(chan string, 1)
	h.watchers[w] = struct{}{}
	if since != h.viewVersion() {
		h.tell(w)
	}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
		close(w)
	})
	return w, nil
}

func (h *Hub) cluster(name string) *fleet.Cluster {
	for i := range h.seed.Clusters {
		if h.seed.Clusters[i].Cluster == name {
			return &h.seed.Clusters[i]
		}
	}
	return nil
}

func (h *Hub) app(cluster string, name fleet.AppName) *fleet.AppStatus {
	for i := range h.seed.Apps {
		if h.seed.Apps[i].Cluster == cluster && h.seed.Apps[i].Name() == name {
			return &h.seed.Apps[i]
		}
	}
	return nil
}

func noCluster(name string) error { return fleet.NotFound("cluster %q is not known", name) }

// has is nil when the cluster has the app.
func (h *Hub) has(cluster string, app fleet.AppName) error {
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return err
	}
	if _, err := fleet.ParseAppName(app.String()); err != nil {
		return err
	}
	if h.app(cluster, app) == nil {
		return fleet.NotFound("app %s is not on cluster %q", app, cluster)
	}
	return nil
}
