package desk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// load folds the buckets into the view, where nobody else writes to them.
func (l *ledger) load(ctx context.Context) error {
	for _, src := range l.sources() {
		if err := takeAll(ctx, src); err != nil {
			return fmt.Errorf("read %s: %w", src.name, err)
		}
	}
	return nil
}

// takeAll decodes a bucket's documents on all processors: of a large fleet that
// is what takes the time.
func takeAll(ctx context.Context, src source) error {
	type document struct {
		key     string
		value   []byte
		version uint64
	}
	var g errgroup.Group
	documents := make(chan document, 1000)
	failed := make(chan struct{})
	var once sync.Once
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for d := range documents {
				if err := src.take(d.key, d.value, d.version); err != nil {
					once.Do(func() { close(failed) })
					return err
				}
			}
			return nil
		})
	}
	err := src.bucket.All(ctx, func(key string, value []byte, version uint64) error {
		select {
		case documents <- document{key, value, version}:
			return nil
		case <-failed:
			return errStopped
		}
	})
	close(documents)
	if failure := g.Wait(); failure != nil {
		return failure
	}
	return err
}

var errStopped = errors.New("stopped")

// source is a bucket that the ledger mirrors.
type source struct {
	name   string
	bucket Bucket
	take   func(key string, value []byte, version uint64) error
}

// sources are in the order in which they have to be read first: what is of a
// cluster that is not known is left out.
func (l *ledger) sources() []source {
	return []source{
		{"clusters", l.cfg.Clusters, l.takeRecord},
		{"intents", l.cfg.Intents, l.takeIntent},
		{"statuses", l.cfg.Statuses, l.takeStatus},
	}
}

// takeRecord takes over a cluster's record as the bucket has it.
func (l *ledger) takeRecord(name string, value []byte, version uint64) error {
	var rec record // of a cluster that is forgotten: none
	if value != nil {
		if err := unmarshal(name, value, &rec); err != nil {
			return err
		}
	}
	s := l.findOrNew(name)
	defer s.mu.Unlock()
	l.adoptRecord(s, rec, version)
	return nil
}

// adoptRecord is takeRecord for a spoke that is locked.
func (l *ledger) adoptRecord(s *spoke, rec record, version uint64) {
	if version <= s.version {
		return
	}
	saved, before := rec.Seen, s.rec
	if rec.Key == s.rec.Key && s.rec.Seen.After(rec.Seen) {
		rec.Seen = s.rec.Seen
	}
	s.rec, s.version, s.saved = rec, version, saved
	if !s.live() {
		s.marks, s.bytes = make(map[fleet.AppName]mark), 0
		l.fold(func(v View) { v.Removed(s.name) })
		return
	}
	if before.Seen = rec.Seen; reflect.DeepEqual(before, rec) {
		l.look(func(v View, _ time.Time) {
			v.Heard(s.name, rec.Report, rec.Seen)
			l.beaten = true
		})
		return
	}
	l.fold(func(v View) {
		v.Enrolled(s.name)
		v.Heard(s.name, rec.Report, rec.Seen)
		v.Assigned(s.name, s.intent.Labels)
		v.Origins(s.name, s.origins())
		v.Ordered(s.name, s.intent.Holds)
	})
}

func (l *ledger) takeIntent(name string, value []byte, version uint64) error {
	var in fleet.Intent
	if value != nil {
		if err := unmarshal(name, value, &in); err != nil {
			return err
		}
	}
	s := l.findOrNew(name)
	defer s.mu.Unlock()
	l.adoptIntent(s, in, version)
	return nil
}

func (l *ledger) adoptIntent(s *spoke, in fleet.Intent, version uint64) {
	if version <= s.intentVersion {
		return
	}
	s.intent, s.intentVersion = in, version
	if s.live() {
		l.fold(func(v View) {
			v.Assigned(s.name, in.Labels)
			v.Origins(s.name, s.origins())
			v.Ordered(s.name, in.Holds)
		})
	}
}

func (l *ledger) takeStatus(key string, value []byte, version uint64) error {
	name, app, err := statusKey(key)
	if err != nil {
		return err
	}
	var st status
	if value != nil {
		if err := unmarshal(key, value, &st); err != nil {
			return err
		}
	}
	s := l.findOrNew(name)
	defer s.mu.Unlock()
	if !s.live() && l.cfg.Shared {
		// The record comes by another way, and may be late.
		ctx, cancel := context.WithTimeout(context.Background(), rereadWithin)
		defer cancel()
		if err := l.reread(ctx, s); err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return err
		}
	}
	if s.live() {
		l.adoptStatus(s, app, value, st, version)
	}
	return nil
}

// rereadWithin bounds a look into the store that nobody waits for.
const rereadWithin = 10 * time.Second

// adoptStatus takes over an app's status; no value: it was deleted.
func (l *ledger) adoptStatus(s *spoke, app fleet.AppName, value []byte, st status, version uint64) {
	old := s.marks[app]
	if version <= old.version {
		return
	}
	s.bytes -= old.size
	if value == nil {
		delete(s.marks, app)
		l.fold(func(v View) { v.Gone(s.name, app) })
		return
	}
	s.bytes += len(value)
	m := mark{epoch: st.Epoch, seq: st.Seq, version: version, size: len(value), sum: contentOf(value), known: knownOf(st.App), gone: st.Gone}
	if m.gone != nil {
		s.marks[app] = m
		l.fold(func(v View) { v.Gone(s.name, app) })
		return
	}
	s.marks[app] = m
	l.fold(func(v View) { v.Reported(s.name, st.App) })
}

func statusKey(key string) (cluster string, app fleet.AppName, err error) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return "", app, fmt.Errorf("%s: not a status's key", key)
	}
	return parts[0], fleet.AppName{Namespace: parts[1], Name: parts[2]}, nil
}

// origins are what is known of who set the labels there are.
func (s *spoke) origins() map[string]fleet.LabelOrigin {
	out := make(map[string]fleet.LabelOrigin, len(s.intent.Origins)+len(s.rec.Declared))
	maps.Copy(out, s.intent.Origins)
	for k, since := range s.rec.Declared {
		out[k] = fleet.LabelOrigin{Since: since}
	}
	return out
}

// declaredSince tells of each declared label since when it is as it is.
func declaredSince(before record, now map[string]string, at time.Time) map[string]time.Time {
	if len(now) == 0 {
		return nil
	}
	out := make(map[string]time.Time, len(now))
	for k, v := range now {
		since, known := before.Declared[k]
		if old, had := before.Report.Declared[k]; !known || !had || old != v {
			since = at
		}
		out[k] = since
	}
	return out
}

// contentOf tells what the bucket holds of one app apart from what it held
// before, whatever their epochs and numbers. In what is written there they come
// first.
func contentOf(value []byte) uint64 {
	_, app, _ := bytes.Cut(value, []byte(`"app":`))
	return maphash.Bytes(contentSeed, app)
}

var contentSeed = maphash.MakeSeed()
