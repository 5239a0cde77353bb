package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The header, and its value, by which JetStream's key-value clients know that a
// message says of a key that it is gone.
const (
	operationHeader = "KV-Operation"
	operationDelete = "DEL"
)

// Delete leaves a marker, by which those that follow hear of it. It goes by
// itself: markers would pile up under the names of apps that come and go.
func (b *kvBucket) Delete(ctx context.Context, key string) error {
	return b.remove(ctx, key)
}

func (b *kvBucket) DeleteIf(ctx context.Context, key string, version uint64) error {
	err := b.remove(ctx, key, jetstream.WithExpectLastSequencePerSubject(version))
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		_, _, err := b.Get(ctx, key)
		if errors.Is(err, fleet.ErrNotFound) {
			return nil
		}
		return fleet.Conflict("%s: %s has changed", b.name, key)
	}
	return err
}

func (b *kvBucket) remove(ctx context.Context, key string, opts ...jetstream.PublishOpt) error {
	if err := checkKey(b.name, key); err != nil {
		return err
	}
	if why := b.refused.Load(); why != nil {
		return *why
	}
	m := nats.NewMsg(b.prefix() + key)
	m.Header.Set(operationHeader, operationDelete)
	if _, err := b.js.PublishMsg(ctx, m, append(opts, jetstream.WithMsgTTL(markerLife))...); err != nil {
		return fmt.Errorf("%s: %s: %w", b.name, key, unavailable(err))
	}
	return nil
}

func (b *kvBucket) prefix() string { return "$KV." + b.name + "." }

// follow is what a follower is called with.
type follow = func(key string, value []byte, version uint64) error

// quietAtMost is how long the server may say nothing at all to one who follows
// before the connection counts as lost.
const quietAtMost = 20 * time.Second

func (b *kvBucket) Follow(ctx context.Context, each follow) error {
	var consumer jetstream.Consumer
	err := patiently(ctx, func(ctx context.Context) (err error) {
		consumer, err = b.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, unavailable(err))
	}
	some := consumer.CachedInfo().NumPending > 0
	if !some {
		if err := each("", nil, 0); err != nil {
			return err
		}
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(batch), jetstream.PullHeartbeat(quietAtMost/2), jetstream.PullExpiry(quietAtMost*3/2))
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, unavailable(err))
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", b.name, unavailable(ctx.Err()))
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return fmt.Errorf("%s: %w", b.name, fleet.Unavailable("the watch ended early"))
		case err != nil:
			continue // it starts again by itself, behind the last message
		}
		last, err := b.pass(m, each)
		if err != nil {
			return err
		}
		if some && last {
			some = false
			if err := each("", nil, 0); err != nil {
				return err
			}
		}
	}
}

// batch is how many messages may be under way to one who follows.
const batch = 2000

// pass tells each of one message, and whether it was the last there is.
func (b *kvBucket) pass(m jetstream.Msg, each follow) (last bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, fmt.Errorf("%s: %w", b.name, unavailable(err))
	}
	key, ok := strings.CutPrefix(m.Subject(), b.prefix())
	if !ok {
		return meta.NumPending == 0, nil
	}
	var value []byte
	if m.Headers().Get(operationHeader) == "" {
		value = m.Data()
	}
	return meta.NumPending == 0, each(key, value, meta.Sequence.Stream)
}
