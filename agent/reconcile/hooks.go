package reconcile

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	waitsForHook = "WaitsForHook"
	hookTimedOut = "HookTimedOut"
	hookFailed   = "HookFailed"
)

// hookLook is how often a hook is looked at that no watch has shown yet.
const hookLook = 5 * time.Second

// hookError says that a hook of a change has failed. It is not tried again by itself.
type hookError struct{ ran hooks.Ran }

func (e *hookError) Error() string { return e.ran.String() + " failed: " + e.ran.Message }

// all are the objects of a change, hooks among them: what is approved.
func (c change) all() []unit.Object {
	return slices.Concat(c.objects, hooks.Objects(c.hooks))
}

// labelsHash stands for labels.
func labelsHash(labels map[string]string) string {
	b, _ := fleet.Canonical(labels) // strings always encode
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// begin notes which run of hooks a change has, and tells whether that is new.
func (e *Engine) begin(kept *state.App, c change, sends bool) bool {
	e.tellCutShort(*kept, c)
	run, _ := hooks.Begin(kept.Run, hooks.Change{
		To: c.digest, Applied: kept.Digest, Hooks: len(c.hooks) > 0, Sends: sends, Retry: c.retry,
		ID: rand.Text(), Labels: c.labels, Now: e.parts.Now(), Within: c.waveWithin,
	})
	moved := run != kept.Run
	kept.Run = run
	return moved
}

// tellCutShort names the hooks of another change that had not ended when this one
// came: nobody waits for them any more, and they are deleted with it.
func (e *Engine) tellCutShort(kept state.App, c change) {
	if kept.Run == nil || kept.Run.Done || kept.Run.Digest == c.digest {
		return
	}
	for _, ran := range kept.Run.Ran {
		if ran.State == hooks.Unended && ran.UID != "" {
			e.parts.Record.Event(kept.Name, true, "HookCutShort", ran.String()+" had not ended when a newer change came; it is deleted")
		}
	}
}

// running is the run that is under way, nil where no hooks are to run.
func running(kept *state.App, c change) *hooks.Run {
	if r := kept.Run; r != nil && r.Digest == c.digest && !r.Done {
		return r
	}
	return nil
}

// finished is the run of a change that was carried out, nil where it had no hooks.
func finished(kept state.App, c change) *hooks.Run {
	if kept.Run == nil || kept.Run.Digest != c.digest || len(c.hooks) == 0 {
		return nil
	}
	return kept.Run.Finished()
}

// abandoned tells that hooks of another change than the one that is applied ran
// last: it was begun, and Git does not want it any more.
func abandoned(kept state.App) bool {
	return kept.Run != nil && kept.Run.Digest != kept.Digest
}

// onCluster are the objects that an app has, or may have, on the cluster.
func onCluster(k state.App) iter.Seq[fleet.ObjectRef] {
	return func(yield func(fleet.ObjectRef) bool) {
		for _, items := range [][]inventory.Item{k.Items, k.Made, k.Left} {
			for _, it := range items {
				if !yield(versionless(it.Ref)) {
					return
				}
			}
		}
	}
}

// inOrder runs the hooks of a change and applies what differs, each in its turn.
// It stops where something is not well yet, and says what.
func (e *Engine) inOrder(ctx context.Context, kept *state.App, c change, delta inventory.Delta) (done []unit.Object, waits *pause, err error) {
	if waits, err = e.runHooks(ctx, kept, c, hooks.PreSync); waits != nil || err != nil {
		return nil, waits, err
	}
	done, waits, err = e.inWaves(ctx, kept, c, delta)
	if waits != nil || err != nil {
		return done, waits, err
	}
	if err := e.tidy(ctx, kept, c, hooks.Sync); err != nil {
		return done, nil, err
	}
	r := running(kept, c)
	if r == nil {
		return done, nil, nil
	}
	if last := hooks.Waves(c.hooks, hooks.PostSync, r.Install); len(last) > 0 && len(r.Unbegun(hooks.PostSync, last[0].Hooks)) > 0 {
		if why, unsure := e.unwell(*kept, c.objects); why != "" {
			return done, &pause{reason: waitsForWave, of: string(hooks.PostSync), message: "PostSync hooks come when all is well, and " + why, within: c.waveWithin, unsure: unsure, look: lookIf(unsure)}, nil
		}
	}
	waits, err = e.runHooks(ctx, kept, c, hooks.PostSync)
	return done, waits, err
}

// syncHooks are the waves of the hooks that run with those of the objects.
func syncHooks(kept *state.App, c change) []hooks.Wave {
	r := running(kept, c)
	if r == nil {
		return nil
	}
	return hooks.Waves(c.hooks, hooks.Sync, r.Install)
}

// runHooks brings the hooks of a phase on, wave by wave: it begins those whose
// turn it is, and looks how those are that were begun. It waits for nothing.
func (e *Engine) runHooks(ctx context.Context, kept *state.App, c change, p hooks.Phase) (*pause, error) {
	r := running(kept, c)
	if r == nil {
		return nil, nil //nolint:nilnil // there is nothing to wait for
	}
	for _, wave := range hooks.Waves(c.hooks, p, r.Install) {
		if waits, err := e.runWave(ctx, kept, c, p, wave.Hooks); waits != nil || err != nil {
			return waits, err
		}
	}
	return nil, e.tidy(ctx, kept, c, p)
}

// runWave is runHooks for hooks that run together.
func (e *Engine) runWave(ctx context.Context, kept *state.App, c change, p hooks.Phase, wave []hooks.Hook) (*pause, error) {
	if running(kept, c) == nil || len(wave) == 0 {
		return nil, nil //nolint:nilnil // there is nothing to wait for
	}
	fresh, ending, err := e.beginHooks(ctx, kept, c, p, wave)
	if err != nil {
		return nil, err
	}
	waits, ended := ending, false
	var failed *hooks.Ran
	for _, h := range wave {
		ran, _ := kept.Run.Of(h.Object.Ref, p)
		if ran.State == hooks.Unended && ran.UID != "" {
			now, why, err := e.lookAtHook(ctx, *kept, ran, slices.ContainsFunc(fresh, h.Object.Ref.Same))
			if err != nil {
				return nil, err
			}
			if now.State != hooks.Unended {
				kept.Run, ended, ran = kept.Run.Noting(now), true, now
			} else if waits == nil {
				why.since, why.within = ran.Began, c.waveWithin
				waits = &why
			}
		}
		if ran.State == hooks.Failed && failed == nil {
			failed = &ran
		}
	}
	if ended {
		if err := e.save(ctx, *kept); err != nil {
			return nil, err
		}
	}
	if failed == nil {
		return waits, nil
	}
	if err := e.tidy(ctx, kept, c, p); err != nil {
		return nil, err
	}
	return nil, &hookError{*failed}
}

// noteEnd remembers how a hook had ended when it was seen: its object may be gone
// before anybody looks, by its ttlSecondsAfterFinished. Called with e.mu held.
func (e *Engine) noteEnd(a *app, ref fleet.ObjectRef) {
	if a.kept.Run == nil {
		return
	}
	sight, seen := e.parts.Eyes.See(ref)
	if !seen || sight.Health != fleet.Healthy && sight.Health != fleet.Degraded {
		return
	}
	for _, ran := range a.kept.Run.Ran {
		if ran.State == hooks.Unended && ran.Ref.Same(ref) {
			if a.ends == nil {
				a.ends = map[string]watch.Sight{}
			}
			a.ends[sight.UID] = sight
		}
	}
}

// endOf is how a hook's object was seen last, if that was when it had ended.
func (e *Engine) endOf(name fleet.AppName, uid string) (watch.Sight, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sight, seen := e.apps[name].ends[uid]
	return sight, seen
}

// lookAtHook tells how a hook is, and what it is waited for while it has not
// ended. fresh: it was made just now, and need not have been seen.
func (e *Engine) lookAtHook(ctx context.Context, kept state.App, ran hooks.Ran, fresh bool) (hooks.Ran, pause, error) {
	waits := pause{reason: waitsForHook}
	say := func(text string) { waits.message = ran.String() + " " + text }
	sight, seen := e.parts.Eyes.See(ran.Ref)
	if !seen || sight.UID != ran.UID {
		sight, seen = e.endOf(kept.Name, ran.UID)
	}
	if seen {
		say(fmt.Sprintf("is %s: %s", sight.Health, sight.Message))
		switch {
		case sight.Health == fleet.Degraded:
			ran.State, ran.Message = hooks.Failed, e.whyFailed(ctx, ran.Ref, sight.Message)
		case sight.Health == fleet.Healthy, sight.Health == fleet.Suspended && !hooks.EndsByItself(ran.Ref):
			ran.State = hooks.Succeeded
			e.parts.Record.Event(kept.Name, false, "HookSucceeded", ran.String())
		}
		return ran, waits, nil
	}
	say("was not seen yet")
	waits.look = hookLook
	if blind := e.parts.Eyes.Blind(ran.Ref); blind != nil {
		say("can't be watched: " + blind.Error())
	}
	if fresh {
		return ran, waits, nil
	}
	live, err := e.acting(kept).Get(ctx, ran.Ref)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		ran.State, ran.Message = hooks.Failed, "it was deleted before it was seen to end"
	case err != nil:
		return ran, waits, err
	case string(live.GetUID()) != ran.UID:
		ran.State, ran.Message = hooks.Failed, "another object has taken its place"
	}
	return ran, waits, nil
}
