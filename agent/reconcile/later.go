package reconcile

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// mostLate is how long it may be put off to write down what was done, or to tell it
// to the App object; the hub is told at once. Bringing a cluster a thousand apps
// takes about as long.
const mostLate = 45 * time.Second

// saveLater is save for what a restart would find out again: what may exist was
// written down before, and what was applied is applied once more. When many apps
// change at once, what they run comes first, and this is put off until there is
// less to do, for a while only.
func (e *Engine) saveLater(ctx context.Context, k state.App) error {
	if !e.busy() {
		return e.save(ctx, k)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.know(k)
	a := e.apps[k.Name]
	if a.unsaved.IsZero() {
		a.unsaved = time.Now()
		e.work.AddAfter(k.Name, mostLate)
	}
	e.late = append(e.late, k.Name)
	return nil
}

// saveDone writes down that a change is done. What left the cluster, what was
// approved and which hooks ran is written down at once: a restart would not find
// that out.
func (e *Engine) saveDone(ctx context.Context, k state.App, delta inventory.Delta, pass passage) error {
	if len(delta.Prune) > 0 || pass.granted || k.Run != nil {
		return e.save(ctx, k)
	}
	return e.saveLater(ctx, k)
}

// busy tells that more than a few apps wait for a worker.
func (e *Engine) busy() bool { return e.work.Len() > e.cfg.Workers/4 }

// catchUp writes down what was put off. Only the app's own worker may: another's
// write would look like another agent's.
func (e *Engine) catchUp(ctx context.Context, name fleet.AppName) error {
	busy := e.busy()
	e.mu.Lock()
	a := e.apps[name]
	if a == nil || a.unsaved.IsZero() {
		e.mu.Unlock()
		return nil
	}
	if late := time.Since(a.unsaved); busy && late < mostLate {
		e.late = append(e.late, name)
		e.work.AddAfter(name, mostLate-late) // each time: the queue forgets it for anything sooner
		e.mu.Unlock()
		return nil
	}
	k := a.kept
	e.mu.Unlock()
	return e.save(ctx, k)
}

// next has one of those looked at that put something off, if there is time. Each
// worker that ends with an app calls it, so they come one after the other.
func (e *Engine) next() {
	if e.busy() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.late) > 0 {
		e.work.Add(e.late[0])
		e.late = e.late[1:]
	}
}

// ErrAsked is the cause of the end of Run's context when the agent was asked to
// end. For any other it may not write any more: it may have lost the Lease.
var ErrAsked = errors.New("the agent was asked to end")

// endWithin bounds how long it may take to write down, at the end, what was put off.
const endWithin = 3 * time.Second

// saveAll writes down what was put off, after the last worker has ended.
func (e *Engine) saveAll(ctx context.Context) error {
	if !errors.Is(context.Cause(ctx), ErrAsked) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(max(1, e.cfg.Workers))
	e.mu.Lock()
	var left []state.App
	for _, a := range e.apps {
		if !a.unsaved.IsZero() {
			left = append(left, a.kept)
		}
	}
	e.mu.Unlock()
	for _, k := range left {
		g.Go(func() error { return e.save(ctx, k) })
	}
	err := g.Wait()
	if err != nil && !errors.Is(err, errOtherAgent) {
		e.log.Warn("what was done last was not written down; the next agent finds it out", "error", err)
		return nil
	}
	return err
}
