package hub

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// reserve is how much must be free where the hub keeps its state, in bytes.
	// Below, nothing is written: a store that runs out of room in the middle of a
	// write has to be opened anew.
	reserve = 64 << 20
	// spent is so little that a write may have failed for it.
	spent = 1 << 20
	// roomEvery is how often it is looked.
	roomEvery = time.Second
)

// room watches how much is free where the embedded server keeps its files.
type room struct {
	dir    string
	free   func(dir string) (uint64, error)
	kept   interface{ Refuse(why error) }
	revive func() error
	log    *slog.Logger

	full atomic.Pointer[error] // why nothing is written; nil: it is
	hurt bool                  // so little was left that a write may have failed
}

func newRoom(cfg Config, b *broker.Broker, kept *store.KV) *room {
	free := cfg.Free
	switch {
	case cfg.shared(): // the state is elsewhere
		free = func(string) (uint64, error) { return math.MaxUint64, nil }
	case free == nil:
		free = freeIn
	}
	return &room{dir: cfg.DataDir, free: free, kept: kept, revive: b.Revive, log: cfg.Log}
}

func freeIn(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// watch looks until ctx ends.
func (r *room) watch(ctx context.Context) {
	t := time.NewTicker(roomEvery)
	defer t.Stop()
	for {
		r.look(ctx)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *room) look(ctx context.Context) {
	free, err := r.free(r.dir)
	if err != nil {
		r.log.WarnContext(ctx, "can't tell how much room the data directory has", "error", err)
		return
	}
	r.hurt = r.hurt || free < spent
	switch full := r.full.Load() != nil; {
	case !full && free < reserve:
		why := fleet.WithHint(fleet.Unavailable("the hub's disk is full: %d MiB are free, it writes nothing below %d", free>>20, reserve>>20),
			fmt.Sprintf("make room where %s is; the hub goes on by itself then", r.dir))
		r.kept.Refuse(why)
		r.full.Store(&why)
		r.log.ErrorContext(ctx, "the disk is full: nothing is written", "free", free, "dir", r.dir)
	case full && free >= 2*reserve:
		if r.hurt {
			if err := r.revive(); err != nil {
				r.log.ErrorContext(ctx, "the store can't be opened anew", "error", err)
				return
			}
		}
		r.hurt = false
		r.kept.Refuse(nil)
		r.full.Store(nil)
		r.log.InfoContext(ctx, "there is room on the disk again", "free", free)
	}
}

// err says why the hub does not write; nil: it does.
func (r *room) err() error {
	if why := r.full.Load(); why != nil {
		return *why
	}
	return nil
}
