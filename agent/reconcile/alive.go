package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// pulse is one worker that is at work on an app. All it does ends by itself: a
// render has its time, a request its own. So one that does not go on for much
// longer hangs, and will not come back.
type pulse struct {
	app   fleet.AppName
	tells bool // it writes a status, and looks at nothing

	mu       sync.Mutex
	phase    Phase
	last     time.Time
	revision fleet.Revision // that it carries to the cluster, when that is known
	digest   fleet.Digest
}

type pulseKey struct{}

// pulseOf is the pulse of the worker whose context that is.
func pulseOf(ctx context.Context) *pulse {
	if p, ok := ctx.Value(pulseKey{}).(*pulse); ok {
		return p
	}
	return &pulse{} // nobody looks at it
}

// Beat says that the work whose context that is goes on: the API server
// answered, or it did not and the request ended.
func Beat(ctx context.Context) {
	p := pulseOf(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// in says that the worker goes on, with another phase. It returns the one before.
func (p *pulse) in(phase Phase) (before Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.phase, p.last = p.phase, phase, time.Now()
	return before
}

// carries notes what the worker brings to the cluster, for the steps that follow.
func (p *pulse) carries(r fleet.Revision, d fleet.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revision, p.digest = r, d
}

// fill says of a step what is known of its worker.
func (p *pulse) fill(s Step) Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Revision, s.Digest = cmp.Or(s.Revision, p.revision), cmp.Or(s.Digest, p.digest)
	return s
}

func (p *pulse) seen() (Phase, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase, p.last
}

// alive is what is known of the engine's own going on. It has a lock of its own:
// it has to answer when the engine's is never given back.
type alive struct {
	mu     sync.Mutex
	busy   map[*pulse]struct{}
	first  map[fleet.AppName]struct{} // that were owned at the start, and were not looked at yet
	loaded bool                       // first is known
	turned time.Time                  // when the engine's lock could last be had; zero: it does not run
}

// stuckAfter is how long a worker may not go on before it counts as stuck.
func (e *Engine) stuckAfter() time.Duration { return cmp.Or(e.cfg.StuckAfter, 15*time.Minute) }

// turnWithin is how long the engine's lock may be away, and turnEvery how often
// it is looked for. Nothing that waits for anything else is done under it.
func (e *Engine) turnWithin() time.Duration { return e.stuckAfter() / 6 }
func (e *Engine) turnEvery() time.Duration  { return e.stuckAfter() / 60 }

// begins has a worker begin on an app; end says that it came back.
func (a *alive) begins(ctx context.Context, app fleet.AppName, phase Phase) (context.Context, *pulse) {
	p := &pulse{app: app, tells: phase == PhaseStatus, phase: phase, last: time.Now()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy == nil {
		a.busy = map[*pulse]struct{}{}
	}
	a.busy[p] = struct{}{}
	return context.WithValue(ctx, pulseKey{}, p), p
}

func (a *alive) end(p *pulse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, p)
	if !p.tells {
		delete(a.first, p.app)
	}
}

// owned notes which apps have to be looked at once before the engine is settled.
func (a *alive) owned(names []fleet.AppName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first, a.loaded = make(map[fleet.AppName]struct{}, len(names)), true
	for _, n := range names {
		a.first[n] = struct{}{}
	}
}

// turn notes every now and then that the engine's lock is given back.
func (e *Engine) turn(ctx context.Context) {
	tick := time.NewTicker(e.turnEvery())
	defer tick.Stop()
	turned := func() {
		e.alive.mu.Lock()
		defer e.alive.mu.Unlock()
		e.alive.turned = time.Now()
	}
	for turned(); ; turned() {
		e.mu.Lock()
		e.mu.Unlock() //nolint:staticcheck // that it could be had is all there is to know
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Stuck says what does not go on and never will: a worker that does not come
// back for much longer than anything may take, or the engine as a whole. That
// Git, the hub or the API server is away is no reason.
func (e *Engine) Stuck() error {
	e.alive.mu.Lock()
	defer e.alive.mu.Unlock()
	if since := time.Since(e.alive.turned); !e.alive.turned.IsZero() && since > e.turnWithin() {
		return fmt.Errorf("the engine hangs since %s", since.Round(time.Second))
	}
	for p := range e.alive.busy {
		if phase, last := p.seen(); time.Since(last) > e.stuckAfter() {
			return fmt.Errorf("the work on app %s hangs in %s since %s", p.app, phase, time.Since(last).Round(time.Second))
		}
	}
	return nil
}

// Settling says what has still to be looked at since the start: every app that
// was owned before, once.
func (e *Engine) Settling() error {
	e.alive.mu.Lock()
	defer e.alive.mu.Unlock()
	if !e.alive.loaded {
		return errors.New("what was kept is not read yet")
	}
	for n := range e.alive.first {
		return fmt.Errorf("%d apps were not looked at since the start, %s among them", len(e.alive.first), n)
	}
	return nil
}

// look is one look at an app by a worker.
func (e *Engine) look(ctx context.Context, name fleet.AppName) error {
	ctx, p := e.alive.begins(ctx, name, PhaseReconcile)
	defer e.alive.end(p)
	ctx, done := beginStep(ctx, e.parts.Meter, Step{App: name, Phase: PhaseReconcile})
	err := e.reconcile(ctx, name)
	done(err)
	return err
}
