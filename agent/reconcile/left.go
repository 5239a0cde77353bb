package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What a change prunes may take its time: a Namespace goes after all that is in it, and
// a finalizer holds whatever it is on. The change is done all the same, and keeps
// nothing waiting. What is still going is noted apart from what the app has, told, and
// looked at until it is gone.

// left is what was pruned and is not gone.
type left struct {
	items map[fleet.ObjectRef]lingering
	asked time.Time // when it was last asked what holds it
	err   error     // why that could not be told
	only  bool      // the app is as it is wanted otherwise
	heard bool      // those that depend on it know that
}

// lingering is one such object, as it was when last it was asked about.
type lingering struct {
	apply.Leaving
	missed bool // no watch sees it, which was asked about
}

// leaveBehind takes off an app's books what is gone, and notes apart what is going.
func (e *Engine) leaveBehind(kept *state.App, gone []inventory.Item, still []apply.Leaving) {
	dropped(kept, gone)
	if len(still) == 0 {
		return
	}
	going := make([]inventory.Item, len(still))
	for i, l := range still {
		going[i] = inventory.Item{Ref: l.Ref, UID: l.UID, Pruned: e.parts.Now().UTC()}
		for _, was := range kept.Left {
			if was.UID == l.UID {
				going[i].Pruned = prunedAt(*kept, was)
			}
		}
	}
	dropped(kept, going)
	kept.Left = append(itemsWithout(kept.Left, going), going...)
	e.noteLeft(kept.Name, nil, still, nil, removeLook)
}

// prunedAt is when what left an app was pruned.
func prunedAt(kept state.App, it inventory.Item) time.Time {
	if it.Pruned.IsZero() {
		return kept.LeftSince
	}
	return it.Pruned
}

// leftRest is in what time what left an app takes too long to go; not above 0: it does.
func (e *Engine) leftRest(kept state.App, it inventory.Item) time.Duration {
	return waveWithin(kept) - e.parts.Now().Sub(prunedAt(kept, it))
}

// lateLook is how often it is looked whether what takes too long to go is gone.
const lateLook = time.Minute

// leftLook is how often it is looked whether what left an app is gone.
func (e *Engine) leftLook(kept state.App) time.Duration {
	if slices.ContainsFunc(kept.Left, func(it inventory.Item) bool { return e.leftRest(kept, it) > 0 }) {
		return removeLook
	}
	return lateLook
}

// noteLeft remembers what holds what is going, for a status to tell, and has it looked
// at again.
func (e *Engine) noteLeft(name fleet.AppName, gone []inventory.Item, still []apply.Leaving, err error, look time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := &e.apps[name].left
	if l.items == nil {
		l.items = map[fleet.ObjectRef]lingering{}
	}
	for _, it := range gone {
		delete(l.items, versionless(it.Ref))
	}
	for _, s := range still {
		ref := versionless(s.Ref)
		l.items[ref] = lingering{Leaving: s, missed: l.items[ref].missed}
	}
	l.asked, l.err = time.Now(), err
	if len(l.items) > 0 || err != nil {
		e.work.AddAfter(name, look)
	}
}

// lookAtLeft asks whether what is going is gone, where a watch saw it go, or some time
// has passed. It keeps nothing waiting: what can't be asked is asked again.
func (e *Engine) lookAtLeft(ctx context.Context, v *view) error {
	ask := e.leftToAsk(v.kept)
	if len(ask) == 0 {
		return nil
	}
	// The app's account may have lost its rights with what went; looking takes none of the app's.
	gone, still, err := e.parts.Cluster.As(v.name, "").StillThere(ctx, ask)
	e.noteLeft(v.name, gone, still, err, e.leftLook(v.kept))
	if len(gone) == 0 {
		return nil
	}
	v.kept.Left = itemsWithout(v.kept.Left, gone)
	if len(v.kept.Left) == 0 {
		v.kept.LeftSince = time.Time{}
	}
	return e.saveLater(ctx, v.kept) // a restart would find that out again
}

// leftToAsk are those to ask about: that no watch sees any more, and those that a message
// names, because what holds them moves. It is none where nothing moved and it is not
// time yet.
func (e *Engine) leftToAsk(kept state.App) []inventory.Item {
	if len(kept.Left) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l := &e.apps[kept.Name].left
	look, named := e.leftLook(kept), map[bool]int{}
	due := time.Since(l.asked) >= look
	var ask []inventory.Item
	for _, it := range kept.Left {
		ref := versionless(it.Ref)
		was, known := l.items[ref]
		sight, seen := e.parts.Eyes.See(it.Ref)
		seen = seen && sight.UID == it.UID
		due = due || !seen && !was.missed
		if known {
			was.missed = !seen
			l.items[ref] = was
		}
		late := e.leftRest(kept, it) <= 0
		if named[late]++; named[late] <= fewNames || !seen || !known {
			ask = append(ask, it)
		}
	}
	if !due {
		e.work.AddAfter(kept.Name, look-time.Since(l.asked)) // another may have come before its time
		return nil
	}
	return ask
}

// stillLeft is what is going, with what is known of what holds it. Called with
// Engine.mu held.
func (a *app) stillLeft(kept state.App) []apply.Leaving {
	var still []apply.Leaving
	for _, it := range kept.Left {
		l, known := a.left.items[versionless(it.Ref)]
		if !known {
			l.Ref = it.Ref
		}
		still = append(still, l.Leaving)
	}
	return still
}

// tellLeft puts into a status what was pruned and is not gone yet. Called with
// Engine.mu held.
func (e *Engine) tellLeft(a *app, s *fleet.AppStatus, sick string, look time.Duration) time.Duration {
	a.left.only = a.extra == 0
	var late, young []apply.Leaving
	for i, l := range a.stillLeft(a.kept) {
		rest := e.leftRest(a.kept, a.kept.Left[i])
		if look = sooner(look, max(rest, 0)); rest > 0 {
			young = append(young, l)
		} else {
			late = append(late, l)
		}
	}
	s.Sync, s.Reason, s.Message, s.Hint = fleet.OutOfSync, pruning, areLeaving(young), hintOf(slices.Concat(late, young))
	if len(late) > 0 {
		s.Reason, s.Message = pruneTimedOut, fmt.Sprintf("for more than %s: %s", waveWithin(a.kept), areLeaving(late))
	}
	if len(late) > 0 && len(young) > 0 {
		s.Message += "; " + areLeaving(young)
	}
	if a.left.err != nil {
		s.Message, s.Hint = s.Message+"; it can't be told whether that is over: "+oneLine(a.left.err), hint(a.left.err)
	}
	if sick != "" {
		s.Message += "; " + sick
	}
	return look
}

// hintOf says what to do where objects do not go: of the first that something holds.
func hintOf(still []apply.Leaving) string {
	for _, l := range still {
		if h := l.Hint(); h != "" {
			return h
		}
	}
	return ""
}

// waveWithin is how long a wave of what is applied may take.
func waveWithin(kept state.App) time.Duration {
	if s := keptSpec(kept); s != nil {
		return s.Sync.WaveWithin()
	}
	return v1alpha1.AppSync{}.WaveWithin()
}

// isLeft tells an object that was pruned and is not gone yet.
func isLeft(kept state.App, ref fleet.ObjectRef) bool {
	return slices.ContainsFunc(kept.Left, func(it inventory.Item) bool { return it.Ref.Same(ref) })
}
