package reconcile

import (
	"time"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// pause is a change that stands between two waves, or before its first, until
// others are well. Nobody waits in it: what a watch sees has the app looked at.
type pause struct {
	reason  string // of the app's conditions
	of      string // which of several waits of this reason it is
	message string
	hint    string
	since   time.Time
	asOf    time.Time     // when it was judged whether it takes too long; zero: it was not
	within  time.Duration // after which it takes too long; 0: never
	look    time.Duration // when to look again, whether a watch saw something or not; 0: no need
	unsure  bool          // no watch had a look yet at what is waited for
}

// tooLong tells a pause that wants a person's look.
func (p pause) tooLong(now time.Time) bool {
	return p.within > 0 && now.Sub(p.since) >= p.within && !p.unsure
}

// late is the reason of one that takes too long.
func (p pause) late() string {
	switch p.reason {
	case recreating:
		return recreateTimedOut
	case waitsForHook:
		return hookTimedOut
	case hookFailed:
		return hookFailed
	case removing:
		return removeTimedOut
	case pruning:
		return pruneTimedOut
	case waitsForApp:
		return waitsForApp
	}
	return waveTimedOut
}

// dated notes since when a pause lasts, on it and in an app's state, which is written
// down with what happens then: a wait does not begin anew with the agent. to is the
// digest of the change that waits.
func (e *Engine) dated(kept *state.App, to fleet.Digest, p *pause) {
	if p == nil {
		return
	}
	if p.asOf = e.parts.Now(); !p.since.IsZero() { // a hook's says since when
		return
	}
	p.of += " " + string(to)
	e.mu.Lock()
	a := e.apps[kept.Name]
	if w := a.waited; a.pause == nil && w != nil && w.For == p.what() {
		p.since = w.Since
	} else {
		p.since = a.since(*p, e.parts.Now().UTC())
	}
	e.mu.Unlock()
	kept.Waits = &state.Wait{For: p.what(), Since: p.since}
}

// waitsOtherwise tells that an app's wait is not the one that is written down.
func (e *Engine) waitsOtherwise(kept state.App) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was, now := e.apps[kept.Name].kept.Waits, kept.Waits
	if was == nil || now == nil {
		return was != now
	}
	return was.For != now.For || !was.Since.Equal(now.Since)
}

// what tells one wait of an app from another.
func (p pause) what() string { return p.reason + " " + p.of }

// since is when a pause began that lasts now. Called with Engine.mu held.
func (a *app) since(p pause, now time.Time) time.Time {
	if was := a.pause; was != nil && was.what() == p.what() {
		return was.since
	}
	return now
}

// pauseFor notes that an app waits for others. It goes on from there by itself.
func (e *Engine) pauseFor(name fleet.AppName, p pause, last *outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if p.since.IsZero() {
		p.since = a.since(p, e.parts.Now())
	}
	a.problem, a.waiting, a.pause, a.waited = nil, "", &p, nil
	if last != nil {
		a.last = last
	}
	if p.asOf.IsZero() {
		p.asOf = e.parts.Now()
	}
	if p.tooLong(p.asOf) && p.look > 0 {
		p.look = max(p.look, lateLook) // what is stuck may be so for days
	}
	if p.look > 0 {
		e.work.AddAfter(name, p.look)
	}
	if left := p.within - p.asOf.Sub(p.since); p.within > 0 && left > 0 {
		e.work.AddAfter(name, left) // to say that it takes too long
	}
}
