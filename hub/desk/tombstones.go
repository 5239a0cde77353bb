package desk

import (
	"cmp"
	"context"
	"encoding/json"
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
	if old.version == 0 && !l.cfg.Shared {
		// Nothing is there that an older report could be taken for the successor of;
		// with other hubs that is not for sure.
		s.marks[app] = mark{epoch: epoch, seq: seq, gone: &now}
		return l.clear(ctx, s, now)
	}
	stone := status{Epoch: epoch, Seq: seq, App: fleet.AppStatus{Namespace: app.Namespace, App: app.Name}, Gone: &now}
	value, err := json.Marshal(stone)
	if err != nil {
		return err
	}
	version, err := l.cfg.Statuses.Put(ctx, s.key(app), value, old.version)
	if err != nil {
		return moved(err)
	}
	l.adoptStatus(s, app, value, stone, version)
	return l.clear(ctx, s, now)
}

// clear takes the tombstones away that have stood for long, and the oldest of
// too many. s is locked.
func (l *ledger) clear(ctx context.Context, s *spoke, now time.Time) error {
	var stones []fleet.AppName
	for app, m := range s.marks {
		if m.gone != nil {
			stones = append(stones, app)
		}
	}
	slices.SortFunc(stones, func(a, b fleet.AppName) int {
		return cmp.Or(s.marks[b].gone.Compare(*s.marks[a].gone), a.Compare(b))
	})
	for i, app := range stones {
		if i < maxGone && now.Sub(*s.marks[app].gone) <= goneLife {
			continue
		}
		if err := l.drop(ctx, s, app); err != nil && !hasMoved(err) {
			return err
		}
	}
	return nil
}

// sweep takes away every tombstone that has stood for long enough.
func (l *ledger) sweep(ctx context.Context) error {
	now := l.cfg.Now()
	var errs []error
	for _, s := range l.all() {
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

// forget takes away what was kept of a cluster that was removed long ago, unless
// it is back by another hub.
func (l *ledger) forget(ctx context.Context, s *spoke) error {
	// The record last: it is what makes another try find the rest.
	if err := l.cfg.Intents.DeleteIf(ctx, s.name, s.intentVersion); err != nil && !errors.Is(err, fleet.ErrConflict) {
		return err
	}
	err := l.cfg.Clusters.DeleteIf(ctx, s.name, s.version)
	if errors.Is(err, fleet.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	s.intent, s.intentVersion = fleet.Intent{}, 0
	s.rec, s.version = record{}, 0
	return nil
}

// key is where an app's report lies.
func (s *spoke) key(app fleet.AppName) string { return s.name + "." + app.Namespace + "." + app.Name }
