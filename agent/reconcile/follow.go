package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/capstan-gitops/capstan/agent/selection"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// follow keeps the snapshot new: every poll interval, and at once when somebody
// pushed or asked.
func (e *Engine) follow(ctx context.Context) {
	failures := 0
	for {
		if e.fetch(ctx) {
			failures = 0
		} else {
			failures++
		}
		timer := time.NewTimer(pause(e.cfg.Poll, failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-e.poke:
			timer.Stop()
		}
	}
}

// pause spreads the polls of a fleet by a tenth, and slows down while the
// repository can't be reached, to ten minutes at most.
func pause(poll time.Duration, failures int) time.Duration {
	d := poll
	for range min(failures, 6) {
		d = min(2*d, max(poll, 10*time.Minute))
	}
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}

func (e *Engine) fetch(ctx context.Context) bool {
	snapshot, err := e.newest(ctx)
	if ctx.Err() != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		if e.world.sourceErr == nil || e.world.sourceErr.Error() != err.Error() {
			e.log.Warn("the repository can't be read", "error", err)
			e.world.sourceErr = err
			e.work.Add(e.root)
		}
		return false
	}
	old := e.world.snapshot
	mended := e.world.sourceErr != nil
	e.world.sourceErr = nil
	if snapshot.Notice != e.world.notice && snapshot.Notice != "" {
		e.log.Warn("the repository or a mirror fails", "notice", snapshot.Notice)
	}
	e.world.notice = snapshot.Notice
	if old == nil || old.Revision() != snapshot.Revision() {
		e.log.Info("new head", "revision", string(snapshot.Revision()), "from", snapshot.From, "rewound", snapshot.Rewound)
		e.world.snapshot, e.world.moved = &snapshot, true
		if snapshot.Rewound != "" {
			e.parts.Record.Event(e.root, true, "Rewound", fmt.Sprintf("%s was moved to %s, which does not come after %s", snapshot.Ref, snapshot.Commit, snapshot.Rewound))
		}
		e.now(e.root)
	} else if mended {
		e.work.Add(e.root)
	}
	return true
}

// newest fetches. Where approval is asked for, it writes down what is followed
// before that counts, so that a branch that is moved during a restart is noticed.
func (e *Engine) newest(ctx context.Context) (unit.Snapshot, error) {
	if move := e.parts.Record.Confirmed(e.root); move != "" {
		e.parts.Source.Accept(move)
	}
	snapshot, err := e.parts.Source.Fetch(ctx)
	if held, ok := errors.AsType[*unit.RewoundError](err); ok {
		return snapshot, fleet.WithHint(err, fmt.Sprintf("push a commit that comes after %s, as git revert makes one; or let it be followed: kubectl -n %s annotate --overwrite app %s %s=%s",
			held.From, e.root.Namespace, e.root.Name, ConfirmAnnotation, held.Accept()))
	}
	if err != nil || snapshot.Head() == e.head {
		return snapshot, err
	}
	if len(e.cfg.Policy.Rules) == 0 {
		// Nothing is held here, and a commit that touches nothing of this cluster
		// is to cost its API server nothing.
		e.head = snapshot.Head()
		return snapshot, nil
	}
	if err := e.parts.Memory.Save(ctx, headName, snapshot.Head()); err != nil {
		if errors.Is(err, fleet.ErrConflict) {
			err = errors.Join(errOtherAgent, err)
			select {
			case e.fatal <- err:
			default:
			}
		}
		return snapshot, err
	}
	e.head = snapshot.Head()
	return snapshot, nil
}

// fetchSoon asks for a fetch without waiting for it.
func (e *Engine) fetchSoon() {
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

func (e *Engine) effective(assigned map[string]string) map[string]string {
	return selection.Effective(e.cfg.Declared, assigned, e.cfg.Assignable)
}

// facts are what a render may know.
func (e *Engine) facts() unit.Facts {
	return unit.Facts{Cluster: e.cfg.Cluster, Labels: e.world.labels}
}

// passOn has every app looked at, if what they depend on moved. The root is
// looked at for other reasons as well, and they are none to try again what
// failed a moment ago.
func (e *Engine) passOn() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.world.moved {
		return
	}
	e.world.moved = false
	add := func(name fleet.AppName) {
		if name != e.root {
			e.now(name)
		}
	}
	for name := range e.world.wanted {
		add(name)
	}
	for name := range e.world.doubtful {
		add(name)
	}
	for name := range e.apps {
		add(name)
	}
}

// now has an app looked at at once, however often it failed. Called with e.mu held.
func (e *Engine) now(name fleet.AppName) {
	if a := e.apps[name]; a != nil {
		a.notBefore = time.Time{}
	}
	e.work.Forget(name)
	e.work.Add(name)
}

// revision is what is rendered now, or "".
func (w *world) revision() fleet.Revision {
	if w.snapshot == nil {
		return ""
	}
	return w.snapshot.Revision()
}
