// Package desk is where people's wishes and agents' reports meet: it answers
// what fleet.Hub promises, and what agents send, from one ledger.
//
// It composes three things it knows only by the interfaces below: buckets that
// remember, a view that folds, and a link to the agents.
package desk

import (
	"context"
	"log/slog"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// Bucket keeps documents by key; a version guards each against being
// overwritten unseen.
type Bucket interface {
	// Get may return ErrNotFound.
	Get(ctx context.Context, key string) (value []byte, version uint64, err error)
	// Put replaces the given version, 0 meaning none. It may return ErrConflict.
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
	Delete(ctx context.Context, key string) error
	// DeleteIf deletes the given version. It may return ErrConflict.
	DeleteIf(ctx context.Context, key string, version uint64) error
	All(ctx context.Context, each func(key string, value []byte, version uint64) error) error
	// Follow tells of every document, once with no key when all that were there
	// have come, and then of each that changes; no value: it was deleted.
	Follow(ctx context.Context, each func(key string, value []byte, version uint64) error) error
}

// Log takes entries that are never changed.
type Log interface {
	Append(ctx context.Context, topic string, entry []byte) error
	// Read calls each with the entries below any of the topics (none: all) in
	// their order, until it returns false or all that were there are read: those
	// after a sequence number, or where that is 0 those since a time.
	Read(ctx context.Context, topics []string, after uint64, since time.Time, each func(seq uint64, entry []byte) (bool, error)) error
}

// View folds facts and answers questions. The desk calls it under a lock.
type View interface {
	Enrolled(cluster string)
	Removed(cluster string)
	Heard(cluster string, r fleet.ClusterReport, at time.Time)
	Lost(cluster string, at time.Time)
	Assigned(cluster string, set map[string]string)
	Origins(cluster string, of map[string]fleet.LabelOrigin)
	Ordered(cluster string, orders []fleet.HoldOrder)
	Reported(cluster string, s fleet.AppStatus)
	Gone(cluster string, app fleet.AppName)

	Report(cluster string) (fleet.ClusterReport, bool)
	Cluster(name string, now time.Time) (fleet.Cluster, bool)
	Clusters(f fleet.ClusterFilter, now time.Time) ([]fleet.Cluster, error)
	Apps(f fleet.AppFilter, now time.Time) ([]fleet.AppStatus, error)
	Stale(now time.Time) []string
	Size() int
}

// Link reaches the agents. Every method may return ErrUnavailable.
type Link interface {
	// JoinUser makes the credential of a join token.
	JoinUser(join string, until time.Time) (jwt, seed string, err error)
	// Address is where agents dial, and the CA they trust there (PEM or "").
	Address() (urls []string, ca string)
	// Revoke makes a key's credentials worthless and cuts its connections.
	Revoke(ctx context.Context, key string) error
	// PushIntent tells a cluster's agent, if it listens.
	PushIntent(cluster string, in fleet.Intent) error
	// Ask gets a part of an answer from a cluster's agent.
	Ask(ctx context.Context, cluster string, a wire.Ask) (wire.Part, error)
	// GitPushed tells every agent.
	GitPushed(p fleet.Push) error
}

// Config is what a desk is made of.
type Config struct {
	Instance string // this hub's id; intents carry it

	Intents, Statuses, Clusters, Joins, Approvals Bucket
	Audit                                         Log // what people change
	Changes                                       Log // what changes on clusters: the newest of each
	View                                          View
	Link                                          Link

	// Shared: other hubs write to the same buckets. Then what they write is
	// followed, until the context of New ends.
	Shared bool

	Now func() time.Time // nil: time.Now
	Log *slog.Logger
}

// Desk is the people's side.
type Desk struct {
	*ledger
}

// Spokes is the agents' side.
type Spokes struct {
	*ledger
}

var _ fleet.Hub = (*Desk)(nil)

// New reads the buckets and returns both sides of a desk.
func New(ctx context.Context, cfg Config) (*Desk, *Spokes, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := newLedger(cfg)
	load := l.load
	if cfg.Shared {
		load = l.follow
	}
	if err := load(ctx); err != nil {
		return nil, nil, err
	}
	l.silent = l.cfg.View.Stale(l.cfg.Now())
	return &Desk{l}, &Spokes{l}, nil
}

// tick is how often the desk looks for clusters that fell silent.
const tick = time.Second

// beatNotice is how often watchers hear of heartbeats that changed nothing but
// when a cluster was last seen.
const beatNotice = 5 * time.Second

// Run tells watchers of what only time changes, until ctx ends; then it writes down when each cluster was last seen.
func (d *Desk) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			d.aged()
		case <-ctx.Done():
			save, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			d.following.Wait()
			return d.saveSeen(save)
		}
	}
}
