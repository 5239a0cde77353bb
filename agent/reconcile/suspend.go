package reconcile

import (
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const reasonSuspended = "Suspended"

// suspended tells an app that is left as it is.
func (e *Engine) suspended(name fleet.AppName) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.suspends(name)
}

// suspends is suspended, called with e.mu held.
func (e *Engine) suspends(name fleet.AppName) bool {
	w, ok := e.world.wanted[name]
	return ok && w.app.Spec.Suspend || e.held(name, fleet.HoldSuspend) != nil
}

// knowsSuspended tells whether it is known yet which apps are suspended in Git.
// Before that nothing is healed: who asked to be left alone is, over a restart
// as well. Called with e.mu held.
func (e *Engine) knowsSuspended(name fleet.AppName) bool {
	return name == e.root || e.world.rendered || e.world.adopted
}

// suspend stops what an app was about to do. What waits, waits on.
func (e *Engine) suspend(name fleet.AppName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if !a.suspended {
		e.parts.Record.Event(name, false, reasonSuspended, e.whySuspended(name))
	}
	a.problem, a.waiting, a.pause, a.waited, a.suspended = nil, "", nil, nil, true
}

// whySuspended says who suspended an app. Called with e.mu held.
func (e *Engine) whySuspended(name fleet.AppName) string {
	const what = "nothing is rendered, applied, pruned or healed"
	if h := e.held(name, fleet.HoldSuspend); h != nil {
		return "suspended by " + describeHold(*h) + ": " + what + " until it is resumed"
	}
	return "suspended in Git: " + what + " until spec.suspend is taken away"
}

// resume has all objects of an app looked at that was suspended: what was
// changed meanwhile was not undone.
func (e *Engine) resume(name fleet.AppName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil || !a.suspended || e.suspends(name) {
		return
	}
	a.suspended = false
	for _, it := range a.kept.Items {
		a.look[versionless(it.Ref)] = true
	}
	e.parts.Record.Event(name, false, "Resumed", "the app goes on")
}

// asSuspended puts into a status that the app is suspended. What is known of it
// stays.
func asSuspended(s fleet.AppStatus, why string) fleet.AppStatus {
	s.Reason, s.Message, s.Hint = reasonSuspended, why, ""
	if len(s.Drift) > 0 {
		s.Message += "; " + describeDrift(s.Drift)
	}
	return s
}
