package people

import (
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// failBurst is how many tokens that are nobody's an address may try at once,
	// and failEvery when it may try another.
	failBurst = 20
	failEvery = 3 * time.Second
	maxKept   = 10000 // addresses and tokens that are remembered
)

// failures slows down those who try tokens. A token that was good before is
// let through whatever others try from its address, which may be a proxy's.
type failures struct {
	now func() time.Time

	mu    sync.Mutex
	from  map[string]*rate.Limiter
	known map[[sha256.Size]byte]struct{}
}

func newFailures(now func() time.Time) *failures {
	return &failures{now: now, from: map[string]*rate.Limiter{}, known: map[[sha256.Size]byte]struct{}{}}
}

// admit tells whether a token may be tried from an address.
func (f *failures) admit(origin string, hash [sha256.Size]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.known[hash]; ok {
		return nil
	}
	if l := f.from[origin]; l != nil && l.TokensAt(f.now()) < 1 {
		return fleet.WithHint(fleet.TooOften("too many tokens that are not this hub's came from %s", origin), "wait a minute")
	}
	return nil
}

func (f *failures) failed(origin string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.from[origin]
	if l == nil {
		f.forget()
		l = rate.NewLimiter(rate.Every(failEvery), failBurst)
		f.from[origin] = l
	}
	l.AllowN(f.now(), 1)
}

// forget makes room: first of addresses that are quiet, then of any.
func (f *failures) forget() {
	if len(f.from) < maxKept {
		return
	}
	now := f.now()
	for k, l := range f.from {
		if l.TokensAt(now) >= failBurst {
			delete(f.from, k)
		}
	}
	for k := range f.from {
		if len(f.from) < maxKept {
			return
		}
		delete(f.from, k)
	}
}

func (f *failures) good(hash [sha256.Size]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= maxKept {
		clear(f.known)
	}
	f.known[hash] = struct{}{}
}
