package store

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Refuse has nothing written any more, for the reason given, until it is called
// with nil. What is there can be read.
func (s *KV) Refuse(why error) {
	if why == nil {
		s.refused.Store(nil)
		return
	}
	s.refused.Store(&why)
}

const (
	// openWithin is how long servers may take that are choosing, among themselves,
	// who leads: one of them may just have been lost.
	openWithin = time.Minute
	// tryWithin is how long one of them may take to answer.
	tryWithin = 5 * time.Second
	tryAgain  = 250 * time.Millisecond
)

// patiently calls do until it does not fail for want of a leader.
func patiently(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, tryWithin)
		err := do(try)
		done()
		if !leaderless(err) || !wait(ctx, tryAgain) {
			return err
		}
	}
}

func leaderless(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == http.StatusServiceUnavailable
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// ensure creates or adapts a stream. One that is as it should be is let be: of
// several hubs that start, none troubles the servers with what another has done.
func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (stream jetstream.Stream, err error) {
	err = patiently(ctx, func(ctx context.Context) (err error) {
		stream, err = js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			stream, err = js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another hub
				stream, err = js.UpdateStream(ctx, want)
			}
		case err == nil && !same(stream.CachedInfo().Config, want):
			stream, err = js.UpdateStream(ctx, want)
		}
		return err
	})
	return stream, err
}

// same compares what is set here of a stream.
func same(have, want jetstream.StreamConfig) bool {
	if want.MaxMsgsPerSubject == 0 {
		want.MaxMsgsPerSubject = -1 // as the server says it
	}
	return have.MaxMsgsPerSubject == want.MaxMsgsPerSubject &&
		have.MaxMsgSize == want.MaxMsgSize && have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge &&
		have.MaxConsumers == want.MaxConsumers && have.Discard == want.Discard && have.DenyDelete == want.DenyDelete && have.DenyPurge == want.DenyPurge &&
		have.AllowRollup == want.AllowRollup && have.AllowMsgTTL == want.AllowMsgTTL && have.Replicas == want.Replicas && have.AllowDirect == want.AllowDirect
}
