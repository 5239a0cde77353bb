package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// JoinLife is how long the state of a join token is kept.
const JoinLife = time.Hour

// buckets and their limits. A full bucket refuses what is new rather than
// dropping what is old.
var buckets = map[string]struct {
	maxBytes int64
	maxAge   time.Duration
}{
	Intent:    {maxBytes: 512 << 20},
	Status:    {maxBytes: 2 << 30},
	Clusters:  {maxBytes: 256 << 20},
	Joins:     {maxBytes: 16 << 20, maxAge: JoinLife},
	Approvals: {maxBytes: 256 << 20},
	Notified:  {maxBytes: 256 << 20},
	Revoked:   {maxBytes: 16 << 20, maxAge: 100 * 24 * time.Hour}, // longer than a credential lives
	Leases:    {maxBytes: 1 << 20, maxAge: LeaseLife},
	Tokens:    {maxBytes: 16 << 20},
}

const (
	logStream   = "audit"
	logMaxBytes = 128 << 20
	logMaxAge   = 365 * 24 * time.Hour

	changesStream   = "changes"
	changesMaxBytes = 256 << 20
	changesMaxAge   = 90 * 24 * time.Hour

	// maxConsumers is far above what hub processes use; the server's own default
	// would be met by a few hundred watches.
	maxConsumers = 4096
)

// KV is a Store on JetStream. Only hub processes connect to the account it
// lives in.
type KV struct {
	js      jetstream.JetStream
	buckets map[string]*kvBucket
	log     *kvLog
	changes *kvLog
	refused atomic.Pointer[error] // why nothing is written
}

var _ Store = (*KV)(nil)

// markerLife is how long it is known of a document that it was deleted: those
// that follow from afar must have heard of it by then.
const markerLife = time.Hour

// OpenKV creates or adapts the streams. Each is kept on that many servers.
func OpenKV(ctx context.Context, js jetstream.JetStream, replicas int) (*KV, error) {
	s := &KV{js: js, buckets: make(map[string]*kvBucket)}
	for name, limits := range buckets {
		cfg := jetstream.StreamConfig{
			Name:              "KV_" + name,
			Subjects:          []string{"$KV." + name + ".>"},
			Storage:           jetstream.FileStorage,
			MaxMsgsPerSubject: 1,
			MaxMsgSize:        MaxValue + 4<<10,
			MaxBytes:          limits.maxBytes,
			MaxAge:            limits.maxAge,
			MaxConsumers:      maxConsumers,
			Discard:           jetstream.DiscardNew,
			DenyDelete:        true,
			AllowRollup:       false,
			AllowMsgTTL:       true, // of deletions
			Replicas:          replicas,
			// A replica would answer a direct get with what it has heard so far.
			AllowDirect: replicas == 1,
		}
		stream, err := ensure(ctx, js, cfg)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", name, unavailable(err))
		}
		var kv jetstream.KeyValue
		err = patiently(ctx, func(ctx context.Context) (err error) { kv, err = js.KeyValue(ctx, name); return err })
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", name, unavailable(err))
		}
		s.buckets[name] = &kvBucket{name: name, js: js, kv: kv, stream: stream, replicated: replicas > 1, refused: &s.refused}
	}
	var err error
	if s.log, err = s.openLog(ctx, jetstream.StreamConfig{Name: logStream, Replicas: replicas, MaxBytes: logMaxBytes, MaxAge: logMaxAge}); err != nil {
		return nil, err
	}
	s.changes, err = s.openLog(ctx, jetstream.StreamConfig{
		Name: changesStream, Replicas: replicas, MaxBytes: changesMaxBytes, MaxAge: changesMaxAge, MaxMsgsPerSubject: MaxChanges,
	})
	return s, err
}

// openLog creates or adapts a stream that is only ever added to.
func (s *KV) openLog(ctx context.Context, cfg jetstream.StreamConfig) (*kvLog, error) {
	cfg.Subjects = []string{cfg.Name + ".>"}
	cfg.Storage = jetstream.FileStorage
	cfg.MaxMsgSize = 64 << 10
	cfg.MaxConsumers = maxConsumers
	cfg.Discard = jetstream.DiscardOld
	cfg.DenyDelete, cfg.DenyPurge = true, true
	cfg.AllowDirect = cfg.Replicas == 1 // a follower may be behind
	stream, err := ensure(ctx, s.js, cfg)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", cfg.Name, unavailable(err))
	}
	return &kvLog{js: s.js, stream: stream, name: cfg.Name, refused: &s.refused}, nil
}

// Bucket implements Store.
func (s *KV) Bucket(name string) Bucket {
	b := s.buckets[name]
	if b == nil {
		panic("store: no bucket " + name)
	}
	return b
}

// Log implements Store.
func (s *KV) Log() Log { return s.log }

// Changes implements Store.
func (s *KV) Changes() Log { return s.changes }

type kvBucket struct {
	name    string
	js      jetstream.JetStream
	kv      jetstream.KeyValue
	stream  jetstream.Stream
	refused *atomic.Pointer[error]

	replicated bool // by several servers
}

func (b *kvBucket) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := checkKey(b.name, key); err != nil {
		return nil, 0, err
	}
	e, err := b.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, fleet.NotFound("%s: %s is not there", b.name, key)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %s: %w", b.name, key, unavailable(err))
	}
	return e.Value(), e.Revision(), nil
}

func (b *kvBucket) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	if err := checkPut(b.name, key, value); err != nil {
		return 0, err
	}
	if why := b.refused.Load(); why != nil {
		return 0, *why
	}
	var next uint64
	var err error
	if version == 0 {
		next, err = b.kv.Create(ctx, key, value)
	} else {
		next, err = b.kv.Update(ctx, key, value, version)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, fleet.Conflict("%s: %s has changed", b.name, key)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", b.name, key, unavailable(err))
	}
	return next, nil
}

func (b *kvBucket) All(ctx context.Context, each func(string, []byte, uint64) error) error {
	if b.replicated {
		return b.allOfLeader(ctx, each)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := b.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, unavailable(err))
	}
	defer w.Stop() //nolint:errcheck // the watch ends with its context at the latest
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("%s: %w", b.name, fleet.Unavailable("the watch ended early"))
			}
			if e == nil { // all there was
				return nil
			}
			if err := each(e.Key(), e.Value(), e.Revision()); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", b.name, unavailable(ctx.Err()))
		}
	}
}

type kvLog struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	name    string
	refused *atomic.Pointer[error]
}

func (l *kvLog) Append(ctx context.Context, topic string, entry []byte) error {
	if err := fleet.ValidateName("topic", topic); err != nil {
		return err
	}
	if why := l.refused.Load(); why != nil {
		return *why
	}
	if _, err := l.js.Publish(ctx, l.name+"."+topic, entry); err != nil {
		return l.failed(err)
	}
	return nil
}

func (l *kvLog) Last(ctx context.Context, n int) ([][]byte, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, l.failed(err)
	}
	last := info.State.LastSeq
	first := max(info.State.FirstSeq, last-min(last, uint64(max(n, 0)))+1)
	var out [][]byte
	for seq := first; seq <= last; seq++ {
		m, err := l.stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // aged out meanwhile
		}
		if err != nil {
			return nil, l.failed(err)
		}
		out = append(out, m.Data)
	}
	return out, nil
}

// unavailable says that it is the store which failed, not what was asked.
func unavailable(err error) error { return fleet.Unavailable("the store: %w", err) }
