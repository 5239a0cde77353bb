package reconcile

import (
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Measured is an app as it is counted.
type Measured struct {
	fleet.AppStatus
	Applied time.Time // when a change of it was last applied whole; zero: never
}

// Measure gives every app as it was told last.
func (e *Engine) Measure() []Measured {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]Measured, 0, len(e.apps))
	for _, a := range e.apps {
		if a.status.App == "" {
			continue
		}
		m := Measured{AppStatus: a.status}
		if h := a.kept.History; len(h) > 0 {
			m.Applied = h[0].Applied
		}
		out = append(out, m)
	}
	return out
}

// Backlog is how many apps wait to be looked at, how many statuses to be
// written, and how many workers are at work.
func (e *Engine) Backlog() (apps, statuses, busy int) {
	e.alive.mu.Lock()
	for p := range e.alive.busy {
		if !p.tells {
			busy++
		}
	}
	e.alive.mu.Unlock()
	return e.work.Len(), e.tell.Len(), busy
}
