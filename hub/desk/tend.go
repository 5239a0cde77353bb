package desk

import (
	"context"
	"errors"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Tend clears away what has had its time, until ctx ends. Of several hubs one
// alone should do it; if two do, it is no harm.
func (d *Desk) Tend(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if err := d.Clear(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "could not forget what is long gone", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Clear forgets what is long gone, and reports of clusters that are not enrolled.
func (d *Desk) Clear(ctx context.Context) error {
	return errors.Join(d.sweep(ctx), d.clearOrphans(ctx))
}

// clearOrphans deletes reports that came in by one hub while another removed
// their cluster.
func (d *Desk) clearOrphans(ctx context.Context) error {
	if !d.cfg.Shared {
		return nil
	}
	orphans := map[string]uint64{}
	err := d.cfg.Statuses.All(ctx, func(key string, _ []byte, version uint64) error {
		cluster, _, err := statusKey(key)
		if err != nil {
			return err
		}
		s, err := d.find(ctx, cluster)
		if err == nil {
			s.mu.Unlock()
		} else if errors.Is(err, fleet.ErrNotFound) {
			orphans[key] = version
		}
		return nil
	})
	for key, version := range orphans {
		err = errors.Join(err, d.cfg.Statuses.DeleteIf(ctx, key, version))
	}
	return err
}
