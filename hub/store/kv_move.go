package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Export calls each with every document that is there to stay, then with every
// entry of the logs in their order, whose key is their topic, and stops at its
// error. What is forgotten after a time is left out: a join token that was used
// must not be good again. What changes meanwhile may be in it or not; each
// document is whole.
func (s *KV) Export(ctx context.Context, each func(bucket, key string, value []byte) error) error {
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		if buckets[name].maxAge > 0 {
			continue
		}
		err := s.Bucket(name).All(ctx, func(key string, value []byte, _ uint64) error { return each(name, key, value) })
		if err != nil {
			return err
		}
	}
	for _, l := range []*kvLog{s.log, s.changes} {
		if err := l.export(ctx, each); err != nil {
			return err
		}
	}
	return nil
}

func (l *kvLog) export(ctx context.Context, each func(bucket, key string, value []byte) error) error {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return l.failed(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		m, err := l.stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it has had its time
		}
		if err != nil {
			return l.failed(err)
		}
		if err := each(l.name, strings.TrimPrefix(m.Subject, l.name+"."), m.Data); err != nil {
			return err
		}
	}
	return nil
}

// Import takes in what an Export gave, into a store that does not have it.
// ErrInvalid: there is no such bucket. ErrConflict: it is there already.
func (s *KV) Import(ctx context.Context, bucket, key string, value []byte) error {
	switch bucket {
	case s.log.name:
		return s.log.Append(ctx, key, value)
	case s.changes.name:
		return s.changes.Append(ctx, key, value)
	}
	if s.buckets[bucket] == nil {
		return fleet.WithHint(fleet.Invalid("there is no bucket %q", bucket), "is this program older than the hub that was backed up?")
	}
	_, err := s.Bucket(bucket).Put(ctx, key, value, 0)
	return err
}
