package desk

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// goneLife is how long it is remembered that an app is gone, so that an old
	// report does not bring it back. An agent that starts anew ends it earlier:
	// reports from before its start are refused whatever they are of.
	goneLife = 24 * time.Hour
	// maxGone is how many of a cluster's apps that is remembered of.
	maxGone = 500
	// removedLife is how long it is remembered that a cluster was removed: longer
	// than any credential that its agent may have lives.
	removedLife = 100 * 24 * time.Hour
	// sweepEvery is how often what was remembered long enough is looked for.
	sweepEvery = 10 * time.Minute
)

// bury leaves a tombstone in the place of an app's report: it must outlive the
// hub's process as the report would have. s is locked.
func (l *ledger) bury(ctx context.Context, s *spoke, app fleet.AppName, epoch, seq uint64) error {
	old, now := s.marks[app], l.cfg.Now().UTC()
	m := mark{epoch: epoch, seq: seq, gone: true, at: now}
	if old.version != 0 {
		stone := status{Epoch: epoch, Seq: seq, App: fleet.AppStatus{Namespace: app.Namespace, App: app.Name}, Gone: &now}
		version, size, err := put(ctx, l.cfg.Statuses, s.key(app), stone, old.version)
		if err != nil {
			return err
		}
		m.version, m.size = version, size
	}
	s.bytes += m.size - old.size
	s.marks[app] = m
	return l.clear(ctx, s, now)
}

// clear takes the tombstones away that have stood for long, and the oldest of
// too many. s is locked.
func (l *ledger) clear(ctx context.Context, s *spoke, now time.Time) error {
	var stones []fleet.AppName
	for app, m := range s.marks {
		if m.gone {
			stones = append(stones, app)
		}
	}
	slices.SortFunc(stones, func(a, b fleet.AppName) int {
		return cmp.Or(s.marks[b].at.Compare(s.marks[a].at), a.Compare(b))
	})
	for i, app := range stones {
		m := s.marks[app]
		if i < maxGone && now.Sub(m.at) <= goneLife {
			continue
		}
		if m.version != 0 {
			if err := l.cfg.Statuses.Delete(ctx, s.key(app)); err != nil {
				return err
			}
		}
		s.bytes -= m.size
		delete(s.marks, app)
	}
	return nil
}

// sweep takes away every tombstone that has stood for long enough.
func (l *ledger) sweep(ctx context.Context) error {
	l.mu.Lock()
	all := make([]*spoke, 0, len(l.spokes))
	for _, s := range l.spokes {
		all = append(all, s)
	}
	l.mu.Unlock()
	now := l.cfg.Now()
	var errs []error
	for _, s := range all {
		s.mu.Lock()
		if s.live() {
			errs = append(errs, l.clear(ctx, s, now))
		} else if at := s.rec.Removed; at != nil && now.Sub(*at) > removedLife {
			errs = append(errs, l.forget(ctx, s))
		}
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// forget takes away what was kept of a cluster that was removed long ago.
func (l *ledger) forget(ctx context.Context, s *spoke) error {
	// The record last: it is what makes another try find the rest.
	if err := l.cfg.Intents.Delete(ctx, s.name); err != nil {
		return err
	}
	s.intent, s.intentVersion = fleet.Intent{}, 0
	if err := l.cfg.Clusters.Delete(ctx, s.name); err != nil {
		return err
	}
	s.rec, s.version = record{}, 0
	return nil
}

// key is where an app's report lies.
func (s *spoke) key(app fleet.AppName) string { return s.name + "." + app.Namespace + "." + app.Name }
