package broker

import (
	"context"
	"fmt"
	"time"
)

const (
	// drainLook is how often it is seen whether all is answered.
	drainLook = 5 * time.Millisecond
	// drainWithin is as long as anybody would wait for that.
	drainWithin = 2 * answerWithin
)

// Drain takes no more messages of agents, and returns once those that were
// taken have been answered, or ctx ends. Where other hubs share the servers they
// take over at once; otherwise agents ask again when a hub is back.
func (b *Broker) Drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, s := range b.subs {
		if err := s.Drain(); err != nil && s.IsValid() {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if b.service != nil {
		if err := b.service.Stop(); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	t := time.NewTicker(drainLook)
	defer t.Stop()
	for b.owes() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("drain: %w", ctx.Err())
		}
	}
	// The answers are on their way before the connections end.
	if err := b.agents.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// owes tells whether messages may still come, or wait for their answers.
func (b *Broker) owes() bool {
	for _, s := range b.subs {
		if s.IsValid() { // it ends once all that was sent to it has been taken
			return true
		}
	}
	return b.taken.Load() > 0
}
