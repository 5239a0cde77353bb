package desk

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ledger is what both sides of the desk share: the records in memory, as the
// buckets hold them, and the view folded from them.
//
// A cluster's records change under its spoke's lock, taken before mu; mu guards
// the view and the map of spokes, and is never held during I/O.
type ledger struct {
	cfg Config

	following sync.WaitGroup

	mu      sync.Mutex
	spokes  map[string]*spoke
	watches map[chan string]struct{}
	boot    string    // versions of the view are told apart by it
	version uint64    // of the view
	silent  []string  // the clusters that were stale at the last tick
	beaten  bool      // a heartbeat came since watchers last heard of one
	beatAt  time.Time // when they did
}

// spoke is one cluster's part of the ledger.
type spoke struct {
	mu   sync.Mutex
	name string

	rec     record
	version uint64
	saved   time.Time // the Seen that was last written

	intent        fleet.Intent
	intentVersion uint64

	marks  map[fleet.AppName]mark
	bytes  int    // of all statuses
	resent uint64 // epoch in which the agent last resent all it had
}

// record is what the bucket of clusters holds.
type record struct {
	Key      string              `json:"key"` // the agent's, enrolled
	Enrolled time.Time           `json:"enrolled"`
	Removed  *time.Time          `json:"removed,omitempty"`
	Epoch    uint64              `json:"epoch"`
	Seen     time.Time           `json:"seen"`
	Report   fleet.ClusterReport `json:"report"`
	// Declared is since when the report's labels are what they are.
	Declared map[string]time.Time `json:"declared,omitempty"`
}

// mark is where an app's reports stand. A large fleet has a hundred thousand.
type mark struct {
	epoch, seq uint64
	version    uint64
	size       int
	gone       *time.Time // when it went; nil: it is there
	known      unique.Handle[known]
	sum        uint64 // of the status
}

// there tells whether the app is.
func (m mark) there() bool { return m.version != 0 && m.gone == nil }

// was is what was known of the app, while it was there.
func (m mark) was() known {
	if m.version == 0 || m.gone != nil {
		return known{}
	}
	return m.known.Value()
}

// status is what the bucket of statuses holds.
type status struct {
	Epoch uint64          `json:"epoch"`
	Seq   uint64          `json:"seq"`
	App   fleet.AppStatus `json:"app"`
	Gone  *time.Time      `json:"gone,omitempty"` // of an app that went away: App has its name alone
}

// join is what the bucket of joins holds.
type join struct {
	Cluster string    `json:"cluster"`
	Expires time.Time `json:"expires"`
	Key     string    `json:"key,omitempty"` // that used it
}

func newLedger(cfg Config) *ledger {
	return &ledger{cfg: cfg, spokes: make(map[string]*spoke), watches: make(map[chan string]struct{}), boot: newID()}
}

// live tells whether the cluster is enrolled.
func (s *spoke) live() bool { return s.rec.Key != "" && s.rec.Removed == nil }

// find returns the spoke of a cluster that is enrolled, locked. The error is
// ErrNotFound.
func (l *ledger) find(ctx context.Context, name string) (*spoke, error) {
	if err := fleet.ValidateName("cluster", name); err != nil {
		return nil, err
	}
	l.mu.Lock()
	s := l.spokes[name]
	l.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		if s.live() {
			return s, nil
		}
		s.mu.Unlock()
	}
	if l.cfg.Shared {
		return l.findElsewhere(ctx, name)
	}
	return nil, unknown(name)
}

func unknown(name string) error {
	return fleet.WithHint(fleet.NotFound("cluster %q is not known", name), "see: capstan get clusters")
}

// findOrNew returns the spoke of a valid name, locked.
func (l *ledger) findOrNew(name string) *spoke {
	l.mu.Lock()
	s := l.spokes[name]
	if s == nil {
		s = &spoke{name: name, marks: make(map[fleet.AppName]mark)}
		l.spokes[name] = s
	}
	l.mu.Unlock()
	s.mu.Lock()
	return s
}

// each decodes every document of a bucket.
func each[T any](ctx context.Context, b Bucket, fn func(string, T, uint64)) error {
	return b.All(ctx, func(key string, value []byte, version uint64) error {
		var t T
		if err := json.Unmarshal(value, &t); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		fn(key, t, version)
		return nil
	})
}

func put(ctx context.Context, b Bucket, key string, v any, version uint64) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	next, err := b.Put(ctx, key, data, version)
	return next, moved(err)
}

// save writes the cluster's record.
func (l *ledger) save(ctx context.Context, s *spoke, rec record) error {
	next, err := put(ctx, l.cfg.Clusters, s.name, rec, s.version)
	if err != nil {
		return err
	}
	l.adoptRecord(s, rec, next)
	return nil
}

// saveSeen writes down when each cluster was last seen: heartbeats that say
// nothing new are not written one by one.
func (l *ledger) saveSeen(ctx context.Context) error {
	var errs []error
	for _, s := range l.all() {
		s.mu.Lock()
		if s.live() && s.rec.Seen.After(s.saved) {
			if err := l.save(ctx, s, s.rec); !hasMoved(err) { // another hub wrote it
				errs = append(errs, err)
			}
		}
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// all are the spokes there are, removed ones too.
func (l *ledger) all() []*spoke {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.spokes))
}

// look runs a question against the view.
func (l *ledger) look(fn func(v View, now time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l.cfg.View, l.cfg.Now())
}

// fold changes the view and tells watchers.
func (l *ledger) fold(fn func(v View)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l.cfg.View)
	l.notify()
}

// notify gives every watcher the newest version. mu is held.
func (l *ledger) notify() {
	l.version++
	for c := range l.watches {
		l.tell(c)
	}
}

// tell puts the newest version in a watcher's channel, in place of one that
// waits there. mu is held.
func (l *ledger) tell(c chan string) {
	select {
	case <-c:
	default:
	}
	c <- l.viewVersion()
}

func (l *ledger) viewVersion() string { return l.boot + "-" + strconv.FormatUint(l.version, 10) }

// aged tells watchers of clusters that fell silent or came back, and now and
// then of heartbeats.
func (l *ledger) aged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	silent := l.cfg.View.Stale(now)
	beats := l.beaten && now.Sub(l.beatAt) >= beatNotice
	if beats {
		l.beaten, l.beatAt = false, now
	}
	if !beats && slices.Equal(silent, l.silent) {
		return
	}
	l.silent = silent
	l.notify()
}

// actorOf is who asks; the hub itself where nobody does.
func actorOf(ctx context.Context) string {
	if name := fleet.Actor(ctx); name != "" {
		return name
	}
	return "hub"
}

// newID is a random name of 128 bits that is a DNS label.
func newID() string { return strings.ToLower(rand.Text()) }
