package desk

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// MaxJoinLife is the longest a join token may live.
const MaxJoinLife = time.Hour

// Clusters implements fleet.Hub.
func (d *Desk) Clusters(_ context.Context, f fleet.ClusterFilter) (out []fleet.Cluster, err error) {
	d.look(func(v View, now time.Time) { out, err = v.Clusters(f, now) })
	return out, err
}

// Apps implements fleet.Hub.
func (d *Desk) Apps(_ context.Context, f fleet.AppFilter) (out []fleet.AppStatus, err error) {
	d.look(func(v View, now time.Time) { out, err = v.Apps(f, now) })
	return out, err
}

// Join implements fleet.Hub. No ttl means MaxJoinLife.
func (d *Desk) Join(ctx context.Context, cluster string, ttl time.Duration) (fleet.JoinGrant, error) {
	none := fleet.JoinGrant{}
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return none, err
	}
	if ttl == 0 {
		ttl = MaxJoinLife
	}
	if ttl < time.Second || ttl > MaxJoinLife {
		return none, fleet.Invalid("a join token lives between %s and %s, not %s", time.Second, MaxJoinLife, ttl)
	}
	if s, err := d.find(ctx, cluster); err == nil {
		s.mu.Unlock()
		return none, taken(cluster)
	}
	id, expires := newID(), d.cfg.Now().Add(ttl).UTC().Truncate(time.Second)
	if err := d.audit(ctx, entry{Action: "join", Cluster: cluster, Detail: map[string]any{"join": id, "expires": expires}}); err != nil {
		return none, err
	}
	jwt, seed, err := d.cfg.Link.JoinUser(id, expires)
	if err != nil {
		return none, err
	}
	if _, err := put(ctx, d.cfg.Joins, id, join{Cluster: cluster, Expires: expires}, 0); err != nil {
		return none, err
	}
	urls, ca := d.cfg.Link.Address()
	token, err := wire.JoinToken{URLs: urls, CA: ca, Cluster: cluster, Join: id, Instance: d.cfg.Instance, JWT: jwt, Seed: seed}.Encode()
	if err != nil {
		return none, err
	}
	return fleet.JoinGrant{Cluster: cluster, Token: token, Expires: expires}, nil
}

// RemoveCluster implements fleet.Hub. The agent is cut off before anything is
// forgotten, and is not told of labels that go: what runs there is left alone.
func (d *Desk) RemoveCluster(ctx context.Context, cluster string) error {
	s, err := d.find(ctx, cluster)
	if errors.Is(err, fleet.ErrNotFound) {
		return d.cancelJoins(ctx, cluster, err)
	}
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	before := map[string]any{"key": s.rec.Key, "uid": s.rec.Report.UID, "enrolled": s.rec.Enrolled, "assigned": s.intent.Labels, "apps": s.apps()}
	if err := d.audit(ctx, entry{Action: "remove-cluster", Cluster: cluster, Before: before}); err != nil {
		return err
	}
	if err := d.forgetJoins(ctx, cluster); err != nil {
		return err
	}
	if err := d.cfg.Link.Revoke(ctx, s.rec.Key); err != nil {
		return err
	}
	// Nobody may report any more, so what is left of its apps need not be told
	// apart: a report that another hub took a moment ago goes as well.
	for app := range s.marks {
		if err := d.cfg.Statuses.Delete(ctx, s.key(app)); err != nil {
			return err
		}
	}
	again := func(ctx context.Context) error { return d.reread(ctx, s) }
	return afresh(ctx, again, func() error { return d.buryCluster(ctx, s) })
}

// buryCluster writes down that a cluster was removed: its labels first, as removals,
// which the same cluster hears of if it joins again.
func (d *Desk) buryCluster(ctx context.Context, s *spoke) error {
	if !s.live() {
		return nil
	}
	tombstone := fleet.Intent{Instance: d.cfg.Instance, Revision: s.intent.Revision + 1}
	tombstone.Removed = slices.Compact(slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(s.intent.Labels)), s.intent.Removed...))))
	version, err := put(ctx, d.cfg.Intents, s.name, tombstone, s.intentVersion)
	if err != nil {
		return err
	}
	d.adoptIntent(s, tombstone, version)
	now := d.cfg.Now().UTC()
	return d.save(ctx, s, record{Key: s.rec.Key, Enrolled: s.rec.Enrolled, Removed: &now, Epoch: s.rec.Epoch})
}

// cancelJoins takes back the tokens of a cluster that has not enrolled; where
// there are none the cluster is not known.
func (d *Desk) cancelJoins(ctx context.Context, cluster string, unknown error) error {
	s := d.findOrNew(cluster) // find has checked the name
	defer s.mu.Unlock()
	if s.live() {
		return fleet.WithHint(fleet.Conflict("cluster %s has just enrolled", cluster), "remove it again")
	}
	ids, err := d.joinsOf(ctx, cluster)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return unknown
	}
	if err := d.audit(ctx, entry{Action: "cancel-join", Cluster: cluster}); err != nil {
		return err
	}
	return d.forgetJoins(ctx, cluster)
}

// forgetJoins makes a cluster's join tokens worthless, used ones too.
func (d *Desk) forgetJoins(ctx context.Context, cluster string) error {
	for range joinTries {
		ids, err := d.joinsOf(ctx, cluster)
		for id, version := range ids {
			err = errors.Join(err, d.cfg.Joins.DeleteIf(ctx, id, version))
		}
		if !errors.Is(err, fleet.ErrConflict) {
			return err
		}
	}
	return fleet.Unavailable("the join tokens of cluster %s are used all the time", cluster)
}

// joinTries is how often tokens are looked for again that were used while they
// were taken back.
const joinTries = 8

// joinsOf are the versions of a cluster's join tokens, by their id.
func (d *Desk) joinsOf(ctx context.Context, cluster string) (map[string]uint64, error) {
	ids := map[string]uint64{}
	err := each(ctx, d.cfg.Joins, func(id string, j join, version uint64) {
		if j.Cluster == cluster {
			ids[id] = version
		}
	})
	return ids, err
}

// changeAll alters the intents of several clusters.
func (d *Desk) changeAll(ctx context.Context, clusters []string, e entry, alter func(*fleet.Intent)) error {
	for _, name := range clusters {
		s, err := d.find(ctx, name)
		if err != nil {
			return err
		}
		err = d.change(ctx, s, e, alter)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Reject implements fleet.Hub.
func (d *Desk) Reject(ctx context.Context, cluster string, app fleet.AppName, plan, why string) error {
	if len(why) > maxWhy {
		return fleet.Invalid("the reason is longer than %d bytes", maxWhy)
	}
	s, err := d.find(ctx, cluster)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if waits, ok := d.waiting(cluster)[plan]; !ok || waits != app {
		return fleet.NotFound("plan %s of %s does not wait on cluster %s", plan, app, cluster)
	}
	r := fleet.Rejection{Plan: plan, By: fleet.Actor(ctx), Why: why, At: d.cfg.Now().UTC()}
	e := entry{Action: "reject", App: app.String(), Detail: map[string]string{"plan": plan, "why": why}}
	return d.change(ctx, s, e, func(in *fleet.Intent) { in.Rejected = append(in.Rejected, r) })
}

const maxWhy = 1000

// Sync implements fleet.Hub.
func (d *Desk) Sync(ctx context.Context, app fleet.AppName, clusters []string) ([]string, error) {
	have, err := d.having(ctx, app, clusters)
	if err != nil {
		return nil, err
	}
	asked := clustersOf(have)
	r := fleet.SyncRequest{ID: newID(), App: app, At: d.cfg.Now().UTC()}
	err = d.changeAll(ctx, asked, entry{Action: "sync", App: app.String()}, func(in *fleet.Intent) { in.Syncs = append(in.Syncs, r) })
	return asked, err
}

// Watch implements fleet.Hub.
func (d *Desk) Watch(ctx context.Context, since string) (<-chan string, error) {
	c := make(chan string, 1)
	d.mu.Lock()
	d.watches[c] = struct{}{}
	if since != d.viewVersion() {
		d.tell(c)
	}
	d.mu.Unlock()
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.watches, c)
		close(c)
	})
	return c, nil
}

// GitPushed tells every agent that somebody pushed to a repository; an empty
// URL means any. Without refs, any of its references may have moved.
func (d *Desk) GitPushed(_ context.Context, url string, refs ...string) error {
	if strings.ContainsAny(url, "\r\n") || len(url) > 2048 {
		return fleet.Invalid("the repository's URL is not valid")
	}
	var agents int
	d.look(func(v View, _ time.Time) { agents = v.Size() })
	return d.cfg.Link.GitPushed(fleet.Push{RepoURL: url, Refs: refs, Agents: agents})
}
