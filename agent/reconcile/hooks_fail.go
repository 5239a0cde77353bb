package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// passing is how many tries in a row may fail before that is taken for more than
// a moment's trouble of the API server.
const passing = 2

// broke notes that a change failed in the middle, and has its SyncFail hooks
// run. What a hook brought about waits for a person, for another digest or for
// other labels; all else is tried again by itself.
func (e *Engine) broke(ctx context.Context, kept state.App, c change, done []unit.Object, cause error) error {
	if errors.Is(cause, errOtherAgent) {
		return cause
	}
	kept.Halfway = true
	before, err := sentBefore(kept, c, done)
	if err := errors.Join(err, keepApplied(&kept, slices.Concat(done, before)), e.save(ctx, kept)); err != nil {
		return e.failedOr(kept.Name, errors.Join(cause, err))
	}
	failed, isHook := errors.AsType[*hookError](cause)
	if !isHook && e.failures(kept.Name) < passing {
		return e.failedOr(kept.Name, cause)
	}
	waits, err := e.failHooks(ctx, &kept, c)
	if err != nil || !isHook {
		return e.failedOr(kept.Name, errors.Join(cause, err))
	}
	message := failed.Error() + hookTroubles(kept)
	c.resumed = true
	if waits != nil {
		waits.reason, waits.message = hookFailed, message+"; "+waits.message
		e.pauseFor(kept.Name, *waits, &outcome{spec: string(c.spec), reads: c.reads, stopped: &c})
		return nil
	}
	e.hookTrouble(kept.Name, message, "push a mended hook")
	e.mu.Lock()
	e.apps[kept.Name].last = &outcome{spec: string(c.spec), reads: c.reads, failed: true, labels: c.labels}
	e.mu.Unlock()
	return nil
}

func (e *Engine) hookTrouble(name fleet.AppName, message, mend string) {
	e.trouble(name, problem{reason: hookFailed, message: shortened(message), hint: mend + ", or have it tried again: capstan sync " + name.String()})
}

// failHooks brings the SyncFail hooks on. They run once for a change, until a
// person asks for another try. It gives what is waited for, unless that takes
// too long.
func (e *Engine) failHooks(ctx context.Context, kept *state.App, c change) (*pause, error) {
	waits, err := e.runHooks(ctx, kept, c, hooks.SyncFail)
	if _, failed := errors.AsType[*hookError](err); failed {
		return nil, nil //nolint:nilnil // it is told with what it was to clean up after
	}
	if waits != nil && waits.tooLong(e.parts.Now()) {
		return nil, err
	}
	return waits, err
}

// endFailHooks notes how the SyncFail hooks ended of a change that went on after
// all. One that still runs is left to, and deleted with the next run.
func (e *Engine) endFailHooks(ctx context.Context, kept *state.App, c change) error {
	r := running(kept, c)
	if r == nil {
		return nil
	}
	for _, ran := range r.Ran {
		if ran.Phase != hooks.SyncFail || ran.State != hooks.Unended || ran.UID == "" {
			continue
		}
		now, _, err := e.lookAtHook(ctx, *kept, ran, false)
		if err != nil {
			return err
		}
		kept.Run = kept.Run.Noting(now)
	}
	return e.tidy(ctx, kept, c, hooks.SyncFail)
}

// hookTroubles tells of SyncFail hooks that failed themselves.
func hookTroubles(kept state.App) string {
	var b strings.Builder
	if kept.Run != nil {
		for _, ran := range kept.Run.Ran {
			if ran.Phase == hooks.SyncFail && ran.State == hooks.Failed {
				fmt.Fprintf(&b, "; %s", (&hookError{ran}).Error())
			}
		}
	}
	return b.String()
}

// whyFailed adds to a hook's own words those of its pods.
func (e *Engine) whyFailed(ctx context.Context, ref fleet.ObjectRef, message string) string {
	if pods := e.parts.Eyes.Ask(ctx, ref); pods != "" && !strings.Contains(message, pods) {
		return strings.TrimPrefix(message+"; "+pods, "; ")
	}
	return message
}
