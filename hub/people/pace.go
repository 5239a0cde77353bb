package people

import (
	"sync"

	"golang.org/x/time/rate"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// pacePerSecond and paceBurst are how much one identity may ask: far more
	// than a person, less than would keep others from being answered.
	pacePerSecond = 50
	paceBurst     = 200
	maxPaced      = 10000
)

// pace bounds how often each identity asks.
type pace struct {
	mu sync.Mutex
	of map[string]*rate.Limiter
}

func newPace() *pace { return &pace{of: map[string]*rate.Limiter{}} }

// Pace counts a request of somebody who was let in. ErrTooOften: they ask more
// than their share.
func (p *People) Pace(id fleet.Identity) error { return p.pace.take(id) }

func (p *pace) take(id fleet.Identity) error {
	key := keyOf(id)
	p.mu.Lock()
	l := p.of[key]
	if l == nil {
		if len(p.of) >= maxPaced {
			clear(p.of) // everybody has their burst again; memory stays bounded
		}
		l = rate.NewLimiter(pacePerSecond, paceBurst)
		p.of[key] = l
	}
	p.mu.Unlock()
	if l.Allow() {
		return nil
	}
	return fleet.WithHint(fleet.TooOften("%q asks more than %d times a second", id.Name, pacePerSecond),
		"wait a second; GET /api/v1/watch tells when there is something to ask for")
}
