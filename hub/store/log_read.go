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

// manyTopics are more than a consumer is asked to filter by: they are sorted out
// here.
const manyTopics = 16

// Read implements Log. What is there is asked of the server that leads; the one
// that reads it out may be behind, and is waited for.
func (l *kvLog) Read(ctx context.Context, topics []string, after uint64, since time.Time, each func(uint64, []byte) (bool, error)) error {
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	for _, t := range topics {
		if err := fleet.ValidateName("topic", t); err != nil {
			return err
		}
		cfg.FilterSubjects = append(cfg.FilterSubjects, l.name+"."+t)
	}
	wanted := func(string) bool { return true }
	if len(topics) > manyTopics {
		all := map[string]bool{}
		for _, s := range cfg.FilterSubjects {
			all[s] = true
		}
		wanted, cfg.FilterSubjects = func(subject string) bool { return all[subject] }, nil
	}
	switch {
	case after > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	case !since.IsZero():
		from := since.Add(-readSlack)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	last, err := l.last(ctx, cfg)
	if err != nil || last == 0 || last <= after {
		return err
	}
	consumer, err := l.stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return l.failed(err)
	}
	r := reading{log: l, consumer: consumer, last: last, wanted: wanted, each: each}
	for !r.done && err == nil {
		err = patiently(ctx, r.batch)
	}
	return errors.Join(r.told, err)
}

// last is the newest entry that a consumer is to bring; 0: there is none.
func (l *kvLog) last(ctx context.Context, cfg jetstream.OrderedConsumerConfig) (last uint64, err error) {
	subjects := cfg.FilterSubjects
	if len(subjects) == 0 {
		subjects = []string{l.name + ".>"}
	}
	for _, subject := range subjects {
		m, err := l.stream.GetLastMsgForSubject(ctx, subject)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return 0, l.failed(err)
		case cfg.OptStartTime == nil || !m.Time.Before(*cfg.OptStartTime):
			last = max(last, m.Sequence)
		}
	}
	return last, nil
}

// reading is one pass over a log.
type reading struct {
	log      *kvLog
	consumer jetstream.Consumer
	last     uint64
	wanted   func(subject string) bool
	each     func(uint64, []byte) (bool, error)
	done     bool
	told     error // by each
}

// batch reads some entries. An error that is leaderless says that there is more,
// and not here yet.
func (r *reading) batch(context.Context) error {
	b, err := r.consumer.FetchNoWait(readBatch)
	if err != nil {
		return r.log.failed(err)
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
			return r.log.failed(err)
		}
		if r.done = meta.Sequence.Stream > r.last; r.done {
			return nil
		}
		more := true
		if r.wanted(m.Subject()) {
			more, r.told = r.each(meta.Sequence.Stream, m.Data())
		}
		if r.done = r.told != nil || !more || meta.Sequence.Stream == r.last; r.done {
			return nil
		}
	}
	if err := b.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
		return r.log.failed(err)
	}
	if n == 0 {
		return r.log.failed(errBehind)
	}
	return nil
}

// errBehind says that a server has not got yet what another one has.
var errBehind = fmt.Errorf("a server is behind: %w", context.DeadlineExceeded)

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
