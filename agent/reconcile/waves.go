package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	waitsForWave       = "WaitsForWave"
	waveTimedOut       = "WaveTimedOut"
	waitsForDependency = "WaitsForDependency"
)

// inWaves applies what differs, wave by wave, and runs the Sync hooks with them.
// It stops before a wave while an object or a hook of an earlier one is not well,
// and says which. What was applied is noted in kept.
func (e *Engine) inWaves(ctx context.Context, kept *state.App, c change, delta inventory.Delta) (done []unit.Object, waits *pause, err error) {
	waves, err := order.Waves(c.objects)
	if err != nil {
		return nil, nil, err
	}
	differs := make(map[fleet.ObjectRef]unit.Object, len(delta.Apply))
	for _, o := range delta.Apply {
		differs[versionless(o.Ref)] = o
	}
	steps := hooks.Merge(waves, syncHooks(kept, c))
	for i, wave := range steps {
		send, ends, err := e.clearAway(ctx, kept, c, wave.Number, differing(wave.Objects, differs), delta)
		if err != nil {
			return done, nil, err
		}
		before, send, err := e.alone(ctx, kept, c, send)
		if done = append(done, before...); err != nil {
			return done, nil, err
		}
		if len(send) > 0 {
			sent, err := e.send(ctx, e.acting(*kept), kept, send)
			done = append(done, sent...)
			if err == nil {
				err = e.watchKinds(ctx, wave.Objects) // those whose CRD came with them
			}
			if err != nil {
				return done, nil, err
			}
		}
		if ends != nil {
			return done, ends, nil
		}
		if waits, err := e.runWave(ctx, kept, c, hooks.Sync, wave.Hooks); waits != nil || err != nil {
			return done, waits, err
		}
		if i == len(steps)-1 {
			break
		}
		if why, unsure := e.unwell(*kept, wave.Objects); why != "" {
			message := fmt.Sprintf("wave %d comes after wave %d, in which %s", steps[i+1].Number, wave.Number, why)
			return done, &pause{reason: waitsForWave, of: strconv.Itoa(wave.Number), message: message, within: c.waveWithin, unsure: unsure, look: lookIf(unsure)}, nil
		}
	}
	return done, nil, nil
}

// unwell names the first object that what comes later has to wait for. What is
// suspended is as somebody wants it. It is not sure of an object of a kind that no
// watch has listed yet, as after a restart.
func (e *Engine) unwell(kept state.App, objects []unit.Object) (why string, unsure bool) {
	items := make(map[fleet.ObjectRef]inventory.Item, len(kept.Items))
	for _, it := range kept.Items {
		items[versionless(it.Ref)] = it
	}
	e.mu.Lock()
	drift := e.apps[kept.Name].drift
	e.mu.Unlock()
	for _, o := range objects {
		it := items[versionless(o.Ref)]
		sight, seen := e.parts.Eyes.See(o.Ref)
		e.mu.Lock()
		_, drifted := drift[versionless(o.Ref)]
		e.mu.Unlock()
		switch {
		case it.Foreign:
		case !seen && e.parts.Eyes.Blind(o.Ref) != nil:
			return fmt.Sprintf("%s can't be watched: %v", o.Ref, e.parts.Eyes.Blind(o.Ref)), false
		case !seen || sight.UID != it.UID || sight.Fingerprint != it.Fingerprint && !drifted:
			return fmt.Sprintf("%s was not seen yet", o.Ref), !e.listed(o.Ref)
		case sight.Health != fleet.Healthy && sight.Health != fleet.Suspended:
			return fmt.Sprintf("%s is %s: %s", o.Ref, sight.Health, sight.Message), false
		}
	}
	return "", false
}

// listed tells that a watch has listed an object's kind, since the start.
func (e *Engine) listed(ref fleet.ObjectRef) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it is asked, not waited for
	return e.parts.Eyes.Synced(ctx, ref) == nil
}

// lookIf has an app looked at that waits for a list: it may not have what is waited for.
func lookIf(unsure bool) time.Duration {
	if unsure {
		return removeLook
	}
	return 0
}

// stop notes that a change waits between two waves, and what of it runs: what is
// healed meanwhile is what was applied last.
func (e *Engine) stop(ctx context.Context, kept state.App, c change, done []unit.Object, why pause) error {
	before, err := sentBefore(kept, c, done)
	if err != nil {
		return err
	}
	done = slices.Concat(done, before)
	if len(done) > 0 || !kept.Halfway || e.waitsOtherwise(kept) {
		kept.Halfway = true
		if err := keepApplied(&kept, done); err != nil {
			return err
		}
		if err := e.save(ctx, kept); err != nil {
			return err
		}
	}
	c.resumed = true
	e.pauseFor(kept.Name, why, &outcome{spec: string(c.spec), reads: c.reads, stopped: &c})
	return nil
}

// sentBefore are the objects of a change that an agent which ended in the middle of
// it had sent, and noted that it had: what was applied last has them as they were
// before.
func sentBefore(kept state.App, c change, done []unit.Object) ([]unit.Object, error) {
	applied, err := kept.Applied()
	if err != nil {
		return nil, err
	}
	was := map[fleet.ObjectRef]string{}
	for _, o := range slices.Concat(applied, done) {
		was[versionless(o.Ref)] = inventory.HashOf(o)
	}
	there := sentHashes(kept.Items)
	return slices.DeleteFunc(slices.Clone(c.objects), func(o unit.Object) bool {
		ref, hash := versionless(o.Ref), inventory.HashOf(o)
		return there[ref] != hash || was[ref] == hash
	}), nil
}

// sentHashes are the hashes of what is noted to be on the cluster.
func sentHashes(items []inventory.Item) map[fleet.ObjectRef]string {
	out := make(map[fleet.ObjectRef]string, len(items))
	for _, it := range items {
		if it.UID != "" {
			out[versionless(it.Ref)] = it.Hash
		}
	}
	return out
}

// keepApplied replaces, among the objects that were last applied, those that
// were applied since.
func keepApplied(k *state.App, done []unit.Object) error {
	if len(done) == 0 {
		return nil
	}
	before, err := k.Applied()
	if err != nil {
		return err
	}
	now := map[fleet.ObjectRef]bool{}
	for _, o := range done {
		now[versionless(o.Ref)] = true
	}
	rest := slices.DeleteFunc(before, func(o unit.Object) bool { return now[versionless(o.Ref)] })
	return k.SetObjects(append(rest, done...))
}

// dependencies says which app a change of this one has to wait for, and why; ""
// where there is none.
func (e *Engine) dependencies(v view) string {
	names := v.want.app.Dependencies()
	if len(names) == 0 {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range names {
		w, wanted := e.wanted(name)
		a := e.apps[name]
		switch {
		case !wanted:
			return fmt.Sprintf("it depends on %s, which is not for this cluster", name)
		case a == nil || a.looked != e.lookOf(w, name):
			return fmt.Sprintf("it depends on %s, which was not looked at yet", name)
		case a.status.Sync != fleet.Synced && !a.left.only: // what takes its time to go holds nothing up
			return fmt.Sprintf("it depends on %s, which is %s", name, a.status.Sync)
		case a.status.Health != fleet.Healthy && a.status.Health != fleet.Suspended:
			return fmt.Sprintf("it depends on %s, which is %s", name, a.status.Health)
		}
	}
	return ""
}

// look is what an app was last looked at for: a status from before is no answer.
type look struct {
	spec     string
	revision fleet.Revision
}

// lookOf is what there is to look at now. Called with e.mu held.
func (e *Engine) lookOf(w want, name fleet.AppName) look {
	l := look{spec: string(w.spec)}
	if s := e.latest(name).Snapshot; s != nil {
		l.revision = s.Revision()
	}
	return l
}

// look is what there was to look at. There is no want without it.
func (v view) look() look {
	l := look{spec: string(v.want.spec)}
	if v.snapshot != nil {
		l.revision = v.snapshot.Revision()
	}
	return l
}

// lookedAt notes that an app was looked at, and has those looked at that depend
// on it if that, or how it is, moved.
func (e *Engine) lookedAt(v view, before fleet.AppStatus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[v.name]
	if a == nil || v.want == nil || v.unread || v.behind { // what is told is from before
		return
	}
	now := v.look()
	if a.looked == now && a.status.Sync == before.Sync && a.status.Health == before.Health && a.left.only == a.left.heard {
		return
	}
	a.looked, a.left.heard = now, a.left.only
	for _, name := range e.world.dependents[v.name] {
		e.work.Add(name)
	}
}

// dependents turns what apps depend on around. Those that depend on themselves
// are told apart, each with the way back.
func dependents(wanted map[fleet.AppName]want) (map[fleet.AppName][]fleet.AppName, map[fleet.AppName][]fleet.AppName) {
	on, of := map[fleet.AppName][]fleet.AppName{}, map[fleet.AppName][]fleet.AppName{}
	for name, w := range wanted {
		for _, d := range w.app.Dependencies() {
			on[name] = append(on[name], d)
			of[d] = append(of[d], name)
		}
	}
	return of, order.Cycles(on)
}
