package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	readBatch = 256
	// readSlack makes up for clocks that differ: the server that keeps the log
	// has its own.
	readSlack = time.Minute
)

// Read implements Log.
func (l *kvLog) Read(ctx context.Context, topics []string, after uint64, since time.Time, each func(uint64, []byte) (bool, error)) error {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return l.failed(err)
	}
	last := info.State.LastSeq
	if after >= last {
		return nil
	}
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	for _, t := range topics {
		if err := fleet.ValidateName("topic", t); err != nil {
			return err
		}
		cfg.FilterSubjects = append(cfg.FilterSubjects, l.name+"."+t)
	}
	switch {
	case after > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	case !since.IsZero():
		from := since.Add(-readSlack)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	consumer, err := l.stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return l.failed(err)
	}
	for {
		done, err := l.batch(ctx, consumer, last, each)
		if done || err != nil {
			return err
		}
	}
}

// batch reads some entries, and tells whether those were all.
func (l *kvLog) batch(ctx context.Context, c jetstream.Consumer, last uint64, each func(uint64, []byte) (bool, error)) (done bool, err error) {
	b, err := c.FetchNoWait(readBatch)
	if err != nil {
		return false, l.failed(err)
	}
	defer func() {
		for range b.Messages() { // the rest of the batch: whoever brings it ends behind it
		}
	}()
	n := 0
	for m := range b.Messages() {
		n++
		meta, err := m.Metadata()
		if err != nil {
			return false, l.failed(err)
		}
		if meta.Sequence.Stream > last {
			return true, nil
		}
		more, err := each(meta.Sequence.Stream, m.Data())
		if err != nil || !more {
			return true, err
		}
	}
	if err := b.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
		return false, l.failed(err)
	}
	return n == 0, ctx.Err()
}

func (l *kvLog) failed(err error) error { return fmt.Errorf("stream %s: %w", l.name, unavailable(err)) }

// Read implements Log.
func (l *memoryLog) Read(_ context.Context, topics []string, after uint64, since time.Time, each func(uint64, []byte) (bool, error)) error {
	l.m.mu.Lock()
	entries := slices.Clone(l.entries)
	l.m.mu.Unlock()
	for _, t := range topics {
		if err := fleet.ValidateName("topic", t); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if e.seq <= after || after == 0 && e.at.Before(since.Add(-readSlack)) || len(topics) > 0 && !slices.Contains(topics, e.topic) {
			continue
		}
		if more, err := each(e.seq, slices.Clone(e.data)); err != nil || !more {
			return err
		}
	}
	return nil
}
