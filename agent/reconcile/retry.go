package reconcile

import (
	"math/rand/v2"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// An app that failed is tried again by itself, later each time. It has a worker
// only while it is tried, so it delays no other.

// tries counts the failures of an app in a row.
type tries struct {
	failed int
	// asked: somebody asked for a try since the last one began.
	asked bool
	// notBefore is when the next try comes. What a watch sees meanwhile is looked at,
	// but does not bring it forward; a new commit, new labels or a person who asks
	// for a sync do.
	notBefore time.Time
}

// early tells that the last try failed, and that it is too early for the next.
func (t tries) early(now time.Time) bool { return now.Before(t.notBefore) }

// later has an app that failed tried again, not before the pause that the API
// server asked for.
func (e *Engine) later(name fleet.AppName, asked time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, now := e.apps[name], time.Now()
	switch {
	case a == nil: // what was left of it could not be put away
		e.work.AddAfter(name, v1alpha1.DefaultRetryInterval)
	case a.tries.asked: // meanwhile, so that it is in the queue already
	case a.tries.early(now): // something was looked at in between, and failed too
		e.work.AddAfter(name, a.tries.notBefore.Sub(now))
	default:
		first, longest := e.retryOf(name, a)
		pause := max(spread(backoff(a.tries.failed, first, longest)), asked)
		a.tries.failed++
		a.tries.notBefore = now.Add(pause)
		e.work.AddAfter(name, pause)
	}
}

// failures is how often an app failed in a row.
func (e *Engine) failures(name fleet.AppName) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[name]; a != nil {
		return a.tries.failed
	}
	return 0
}

// succeeded forgets how often an app failed. A look that came too early for the
// next try, or before Git is known, says nothing about that.
func (e *Engine) succeeded(v view) {
	if (v.early || v.unread || v.behind) && v.name != e.root {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[v.name]; a != nil {
		a.tries, a.unkept = tries{}, nil
	}
}

// retryOf is when an app is tried again. Called with e.mu held.
func (e *Engine) retryOf(name fleet.AppName, a *app) (first, longest time.Duration) {
	if w, ok := e.world.wanted[name]; ok {
		return w.app.Spec.Sync.RetryEvery()
	}
	if s := keptSpec(a.kept); s != nil && name != e.root {
		return s.Sync.RetryEvery()
	}
	return v1alpha1.AppSync{}.RetryEvery()
}

// backoff is the pause after n failures before the last.
func backoff(n int, first, longest time.Duration) time.Duration {
	for ; n > 0 && first < longest; n-- {
		first *= 2
	}
	return min(first, longest)
}

// spread adds up to a tenth, so that apps that failed at once are not tried at once.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d/10+1) //nolint:gosec // nobody gains by guessing it
}

// A render that was ended, for the time or the memory it took, would most likely
// be ended again. But the machine may have been at fault, so it is tried now and
// then, without a commit.
const (
	firstAfterKill = 10 * time.Minute
	lastAfterKill  = 6 * time.Hour
)

// kills is how often a render of the same was ended, and when it is tried again.
type kills struct {
	count int
	again time.Time
}

// due tells that an ended render may be tried again.
func (k kills) due(now time.Time) bool { return k.count > 0 && !now.Before(k.again) }

// killed counts a render that was ended. before is what the last render led to.
func killed(before *outcome, spec string, bad *unit.RenderError, now time.Time) kills {
	if !bad.Ended {
		return kills{}
	}
	k := kills{count: 1}
	if before != nil && before.spec == spec && before.reads.Paths[""] == bad.Reads.Paths[""] {
		k.count += before.kills.count
	}
	k.again = now.Add(backoff(k.count-1, firstAfterKill, lastAfterKill))
	return k
}

// nextTry is what a status tells of an app that failed, and how long it is until
// then; nil: it did not. Called with e.mu held.
func (a *app) nextTry(now time.Time) (*fleet.Retry, time.Duration) {
	switch {
	case a.tries.failed > 0:
		return retry(a.tries.failed, a.tries.notBefore), a.tries.notBefore.Sub(now)
	case a.last != nil && a.last.kills.count > 0:
		return retry(a.last.kills.count, a.last.kills.again), a.last.kills.again.Sub(now)
	}
	return nil, 0
}

func retry(failed int, at time.Time) *fleet.Retry {
	return &fleet.Retry{Failed: failed, Next: at.UTC().Truncate(time.Second)}
}
