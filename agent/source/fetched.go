package source

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Fetched is one look at a repository.
type Fetched struct {
	URL, Follows string         // as they are named, without credentials
	Revision     fleet.Revision // the newest; "" where it could not be read
	New          bool           // it is another than before
	Began        time.Time
	Took         time.Duration
	Err          error
}

// tellFetched tells of a look before anybody works on what it found.
func (f *follower) tellFetched(began time.Time, s unit.Snapshot, isNew bool, err error) {
	if f.pool.cfg.Fetched == nil {
		return
	}
	told := Fetched{URL: f.cfg.URL, Follows: f.cfg.Ref.String(), New: isNew, Began: began, Took: time.Since(began), Err: err}
	if err == nil {
		told.Revision = s.Revision()
	}
	f.pool.cfg.Fetched(told)
}

// Reached is when a repository last answered, itself and not a mirror.
type Reached struct {
	URL, Follows string
	At           time.Time // where it never did: when it was first to be read
}

// Reached says of every repository that is followed when it was last reached, by
// their names. Of one that is read with several Secrets, the worst counts.
func (p *Pool) Reached() []Reached {
	p.mu.Lock()
	defer p.mu.Unlock()
	type key struct{ url, follows string }
	worst := map[key]Reached{}
	for _, f := range append(slices.Collect(maps.Values(p.followers)), p.own) {
		k := key{f.cfg.URL, f.cfg.Ref.String()}
		if was, ok := worst[k]; !ok || f.reached.Before(was.At) {
			worst[k] = Reached{URL: k.url, Follows: k.follows, At: f.reached}
		}
	}
	return slices.SortedFunc(maps.Values(worst), func(a, b Reached) int {
		return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.Follows, b.Follows))
	})
}
