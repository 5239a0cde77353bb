package desk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// tries is how often a change is made anew because somebody else changed the
// same thing since it was read: another hub, or this one by a write whose
// acknowledgement was lost.
const tries = 10

// aside is how long somebody who was not first steps aside at most before the
// second try. It doubles with each try after, so that hubs that write to one
// document by turns do not stay in step.
const aside = 2 * time.Millisecond

// movedError says that a document is not any more as this hub has it.
type movedError struct{ error }

func (e movedError) Unwrap() error { return e.error }

// moved marks a bucket's conflict, so that it is not taken for one of the fleet's.
func moved(err error) error {
	if errors.Is(err, fleet.ErrConflict) {
		return movedError{err}
	}
	return err
}

func hasMoved(err error) bool {
	_, ok := errors.AsType[movedError](err)
	return ok
}

// afresh calls do until nobody was first, and rereads in between.
func afresh(ctx context.Context, reread func(context.Context) error, do func() error) error {
	for try := range tries {
		err := do()
		if !hasMoved(err) {
			return err
		}
		select {
		case <-time.After(rand.N(aside << try)):
		case <-ctx.Done():
			return fleet.Unavailable("others changed the same: %w", ctx.Err())
		}
		if err := reread(ctx); err != nil {
			return err
		}
	}
	return fleet.Unavailable("others change the same all the time")
}

// againAfter is the pause before a bucket is followed anew.
const againAfter = time.Second

// follow is load for buckets that others write to as well. It returns when all
// that there was has come.
func (l *ledger) follow(ctx context.Context) error {
	for _, src := range l.sources() {
		ready, failed := make(chan struct{}), make(chan error, 1)
		l.following.Go(func() { l.followOne(ctx, src, ready, failed) })
		select {
		case <-ready:
		case err := <-failed:
			return fmt.Errorf("read %s: %w", src.name, err)
		case <-ctx.Done():
			return fleet.Unavailable("read %s: %w", src.name, ctx.Err())
		}
	}
	return nil
}

// followOne follows until ctx ends. An error before all has come is told; later
// ones are this hub's to get over.
func (l *ledger) followOne(ctx context.Context, src source, ready chan<- struct{}, failed chan<- error) {
	complete := false
	for {
		err := src.bucket.Follow(ctx, func(key string, value []byte, version uint64) error {
			if key == "" {
				if !complete {
					complete = true
					close(ready)
				}
				return nil
			}
			err := src.take(key, value, version)
			if err != nil && complete {
				l.cfg.Log.ErrorContext(ctx, "a document can't be read", "bucket", src.name, "key", key, "error", err)
				return nil
			}
			return err
		})
		if !complete {
			failed <- err
			return
		}
		t := time.NewTimer(againAfter)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			l.cfg.Log.WarnContext(ctx, "following the store anew", "bucket", src.name, "error", err)
		}
	}
}

// reread takes over what the buckets hold of a cluster. s is locked.
func (l *ledger) reread(ctx context.Context, s *spoke) error {
	var rec record
	version, err := get(ctx, l.cfg.Clusters, s.name, &rec)
	if err != nil {
		return err
	}
	l.adoptRecord(s, rec, version)
	var in fleet.Intent
	version, err = get(ctx, l.cfg.Intents, s.name, &in)
	if errors.Is(err, fleet.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l.adoptIntent(s, in, version)
	return nil
}

// rereadStatus takes over what the bucket holds of an app. s is locked.
func (l *ledger) rereadStatus(ctx context.Context, s *spoke, app fleet.AppName) error {
	value, version, err := l.cfg.Statuses.Get(ctx, s.key(app))
	if errors.Is(err, fleet.ErrNotFound) {
		s.bytes -= s.marks[app].size
		delete(s.marks, app)
		l.fold(func(v View) { v.Gone(s.name, app) })
		return nil
	}
	if err != nil {
		return err
	}
	var st status
	if err := unmarshal(s.key(app), value, &st); err != nil {
		return err
	}
	l.adoptStatus(s, app, value, st, version)
	return nil
}

// findElsewhere is find for a cluster that another hub may have enrolled a
// moment ago.
func (l *ledger) findElsewhere(ctx context.Context, name string) (*spoke, error) {
	if _, _, err := l.cfg.Clusters.Get(ctx, name); errors.Is(err, fleet.ErrNotFound) {
		return nil, unknown(name)
	}
	s := l.findOrNew(name)
	err := l.reread(ctx, s)
	if err == nil && s.live() {
		return s, nil
	}
	s.mu.Unlock()
	if err == nil {
		err = unknown(name)
	}
	return nil, err
}
