package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// LeaseLife is how long a lease lasts that is not renewed.
	LeaseLife = 15 * time.Second
	// renewEvery is how often it is renewed, and looked whether it is free.
	renewEvery = LeaseLife / 5
	// sureFor is how long a holder that can't renew believes in it: it has ended
	// its work before the lease runs out, by any clock that runs true.
	sureFor = LeaseLife * 3 / 5
)

// Lead calls work while this process is the one of all that share the bucket
// which does it: name says what is done, holder who does it. The work's context
// ends when the lease is lost; another may begin once work has returned or the
// lease has run out. Lead returns when ctx has ended, and work with it.
//
// A process that was stopped for longer than a lease lasts does not notice at
// once. So whatever the work writes must be safe if two do it.
func Lead(ctx context.Context, leases Bucket, name, holder string, work func(context.Context)) {
	for ctx.Err() == nil {
		version, err := leases.Put(ctx, name, []byte(holder), 0)
		if err == nil {
			lead(ctx, leases, name, holder, version, work)
		}
		wait(ctx, renewEvery)
	}
}

// lead does the work and renews the lease, until either ends.
func lead(ctx context.Context, leases Bucket, name, holder string, version uint64, work func(context.Context)) {
	working, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		work(working)
	})
	renewed := time.Now()
	for wait(working, renewEvery) {
		within, cancel := context.WithTimeout(working, renewEvery)
		next, err := leases.Put(within, name, []byte(holder), version)
		cancel()
		if err == nil {
			version, renewed = next, time.Now()
		} else if errors.Is(err, fleet.ErrConflict) || time.Since(renewed) > sureFor {
			break
		}
	}
	stop()
	wg.Wait()
	// The next one need not wait. It is no harm if this fails.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = leases.DeleteIf(within, name, version)
}

// wait tells whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
