package uplink

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// fetchEvery is how often the intent is fetched though nothing says that it
// changed.
const fetchEvery = 10 * time.Minute

// onIntent keeps the latest pushed intent for heed.
func (s *session) onIntent(m *nats.Msg) {
	in, err := wire.Decode[wire.Intent](m.Data)
	if err != nil {
		s.cfg.Log.Warn("an intent from the hub can't be read", "error", err)
		return
	}
	for {
		select {
		case s.intents <- in.Intent:
			return
		default:
		}
		select {
		case <-s.intents: // an older one nobody looked at
		default:
		}
	}
}

// takeKept hands out the intent from before the start.
func (s *session) takeKept(ctx context.Context) error {
	in := s.state().Intent
	if in.Revision == 0 && len(in.Labels) == 0 && len(in.Holds) == 0 {
		return nil
	}
	return s.take(ctx, in)
}

func (s *session) take(ctx context.Context, in fleet.Intent) error {
	return s.retry(ctx, "the intent could not be acted on", func() error { return s.spoke.TakeIntent(ctx, in) })
}

// heed brings in what people want: what was pushed, and what is fetched.
func (s *session) heed(ctx context.Context) error {
	t := time.NewTicker(fetchEvery)
	defer t.Stop()
	for {
		var in fleet.Intent
		select {
		case in = <-s.intents:
		case <-s.fetch:
			in = s.fetched(ctx)
		case <-t.C:
			in = s.fetched(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.consider(ctx, in); err != nil {
			return err
		}
	}
}

// fetched gets the intent; an empty one where that fails: the next heartbeat
// shows whether anything was missed.
func (s *session) fetched(ctx context.Context) fleet.Intent {
	in, err := call[wire.Intent](ctx, s, wire.IntentGetSubject(s.cfg.Cluster), wire.IntentGet{})
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "can't fetch the intent", errorAttrs(err)...)
		return fleet.Intent{}
	}
	return in.Intent
}

// consider keeps an intent if it is newer and of the accepted hub, then acts on
// it. It is kept first: what the cluster acted on must be known after a restart,
// though the hub be gone.
func (s *session) consider(ctx context.Context, in fleet.Intent) error {
	k := s.state()
	if in.Instance != k.Instance || !in.Newer(k.Intent) {
		return nil
	}
	// Absence takes no label away, and lifts no hold: only what is said does.
	in.Labels, in.Holds = in.Merge(k.Intent.Labels), in.MergeHolds(k.Intent.Holds)
	err := s.retry(ctx, "the intent could not be kept", func() error {
		return s.change(ctx, func(k *Kept) { k.Intent = in })
	})
	if errors.Is(err, ErrSuperseded) || ctx.Err() != nil {
		return err
	}
	return s.take(ctx, in)
}
