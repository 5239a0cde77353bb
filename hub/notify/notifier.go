package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Fleet is what there is to tell of. The hub's desk is one.
type Fleet interface {
	Clusters(ctx context.Context, f fleet.ClusterFilter) ([]fleet.Cluster, error)
	Apps(ctx context.Context, f fleet.AppFilter) ([]fleet.AppStatus, error)
	// Watch gives a value whenever something may have changed, until ctx ends.
	Watch(ctx context.Context, since string) (<-chan string, error)
}

// Bucket keeps what was told; a version guards each document.
type Bucket interface {
	// Get may return ErrNotFound.
	Get(ctx context.Context, key string) (value []byte, version uint64, err error)
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
	Delete(ctx context.Context, key string) error
	All(ctx context.Context, each func(key string, value []byte, version uint64) error) error
}

// NotifierConfig is what a Notifier is made of. Fleet and Told are required.
type NotifierConfig struct {
	Routes []Route
	Fleet  Fleet
	Told   Bucket
	URL    string // of the hub, for links
	// Observe hears how each message fared. Nil: nobody counts.
	Observe func(route, kind string, err error)
	Log     *slog.Logger // nil: nothing is logged
	Every   time.Duration
}

// Notifier looks at the fleet and sends. It runs once.
type Notifier struct {
	NotifierConfig
	memory *Memory
	dirty  map[string]bool // subjects to be written down
	queues map[string]chan Message
	done   chan outcome
}

type outcome struct {
	message Message
	err     error
}

// lookEvery is the pause between looks: what changes meanwhile is seen at once
// in the next.
const lookEvery = 5 * time.Second

// New makes a Notifier.
func New(c NotifierConfig) *Notifier {
	if c.Observe == nil {
		c.Observe = func(string, string, error) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Every <= 0 {
		c.Every = lookEvery
	}
	return &Notifier{NotifierConfig: c, dirty: make(map[string]bool), queues: make(map[string]chan Message), done: make(chan outcome)}
}

// Run sends until ctx ends; what was under way then is told after the next
// start. Where several processes share a bucket, one of them at a time runs a
// Notifier; while two do, a thing may be told twice.
func (n *Notifier) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range n.Routes {
		r := &n.Routes[i]
		n.queues[r.Name] = make(chan Message, burst)
		g.Go(func() error { n.deliver(ctx, r); return nil })
	}
	g.Go(func() error { return n.watch(ctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (n *Notifier) watch(ctx context.Context) error {
	changes, err := n.Fleet.Watch(ctx, "")
	if err != nil {
		return fmt.Errorf("notifications: %w", err)
	}
	tick := time.NewTicker(n.Every)
	defer tick.Stop()
	changed := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok {
				changes = nil
			}
			changed = true
		case o := <-n.done:
			n.note(ctx, o)
		case <-tick.C:
			if changed, err = n.look(ctx, changed); err != nil && ctx.Err() == nil {
				n.Log.WarnContext(ctx, "can't see what is to be notified", "error", err)
			}
		}
	}
}

// look decides, if there is anything new, and tells whether time alone may
// bring more.
func (n *Notifier) look(ctx context.Context, changed bool) (bool, error) {
	if n.memory == nil {
		if err := n.recall(ctx); err != nil {
			return true, err
		}
	} else if !changed && len(n.dirty) == 0 {
		return false, nil
	}
	clusters, err := n.Fleet.Clusters(ctx, fleet.ClusterFilter{})
	if err != nil {
		return true, err
	}
	apps, err := n.Fleet.Apps(ctx, fleet.AppFilter{})
	if err != nil {
		return true, err
	}
	d := n.memory.Decide(n.Routes, State{Clusters: clusters, Apps: apps, URL: n.URL}, time.Now())
	for _, m := range d.Messages {
		select {
		case n.queues[m.Route] <- m:
		default:
			n.memory.Postponed(m)
		}
	}
	return d.Waiting, n.write(ctx, d.Changed...)
}

func (n *Notifier) recall(ctx context.Context) error {
	m := NewMemory()
	err := n.Told.All(ctx, func(key string, value []byte, _ uint64) error { return m.Recall(key, value) })
	if err != nil {
		return err
	}
	n.memory = m
	return nil
}

// note takes in how a message fared.
func (n *Notifier) note(ctx context.Context, o outcome) {
	if o.err != nil {
		var after time.Duration
		if l, ok := errors.AsType[*later](o.err); ok {
			after = l.after
		}
		n.memory.Failed(o.message, time.Now(), after)
		return
	}
	if err := n.write(ctx, n.memory.Delivered(o.message, time.Now())); err != nil {
		n.Log.WarnContext(ctx, "can't write down what was notified", "subject", o.message.Subject(), "error", err)
	}
}

// write writes down what was told of some subjects. One Notifier runs, so the
// version that is there is the one to replace.
func (n *Notifier) write(ctx context.Context, subjects ...string) error {
	for _, s := range subjects {
		n.dirty[s] = true
	}
	for s := range n.dirty {
		data, err := n.memory.Written(s)
		if err != nil {
			return err
		}
		if err := n.put(ctx, s, data); err != nil {
			return err // it stays dirty
		}
		delete(n.dirty, s)
	}
	return nil
}

func (n *Notifier) put(ctx context.Context, key string, data []byte) error {
	_, version, err := n.Told.Get(ctx, key)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return err
	}
	if data == nil {
		return n.Told.Delete(ctx, key)
	}
	_, err = n.Told.Put(ctx, key, data, version)
	return err
}

// deliver sends a route's messages one after the other.
func (n *Notifier) deliver(ctx context.Context, r *Route) {
	for {
		var m Message
		select {
		case m = <-n.queues[r.Name]:
		case <-ctx.Done():
			return
		}
		err := r.Send(ctx, m)
		if ctx.Err() != nil {
			return
		}
		n.Observe(r.Name, r.Kind(), err)
		attrs := []any{"route", r.Name, "kind", r.Kind(), "trigger", string(m.Trigger), "subject", m.Subject(), "resolved", m.Resolved}
		if err != nil {
			n.Log.WarnContext(ctx, "a notification was not delivered", append(attrs, "error", err)...)
		} else {
			n.Log.InfoContext(ctx, "notified", attrs...)
		}
		select {
		case n.done <- outcome{m, err}:
		case <-ctx.Done():
			return
		}
	}
}
