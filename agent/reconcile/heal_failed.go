package reconcile

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// healFailed: an object that moved can't be looked at, or not be put back.
const healFailed = "HealFailed"

// healTrouble notes whether what moved could be looked at and put back. What
// could not is looked at again with the next try.
func (e *Engine) healTrouble(ctx context.Context, name fleet.AppName, err error) {
	if ctx.Err() != nil || errors.Is(err, errOtherAgent) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	switch {
	case a == nil:
	case err == nil:
		a.unhealed = nil
	default:
		p := problem{reason: healFailed, message: oneLine(err), hint: hint(err)}
		if a.unhealed == nil || *a.unhealed != p {
			e.parts.Record.Event(name, true, p.reason, p.message)
		}
		a.unhealed = &p
	}
}

// tellUnhealed puts into a status that an object can't be looked at or put back.
// Where none is known to differ, it can't be told whether one does.
func (a *app) tellUnhealed(s *fleet.AppStatus) {
	s.Sync, s.Reason, s.Message, s.Hint = fleet.OutOfSync, a.unhealed.reason, a.unhealed.message, a.unhealed.hint
	if len(a.drift) == 0 {
		s.Sync = fleet.SyncUnknown
	}
}

// clusterWideFirst has a namespace put back before what was in it.
func clusterWideFirst(items []inventory.Item) []inventory.Item {
	out := slices.Clone(items)
	slices.SortStableFunc(out, func(a, b inventory.Item) int {
		return cmp.Compare(min(len(a.Ref.Namespace), 1), min(len(b.Ref.Namespace), 1))
	})
	return out
}

// blindHint says what to do about the first kind of an app that can't be watched,
// "" where there is none.
func (e *Engine) blindHint(a *app, h fleet.Health) string {
	if h != fleet.HealthUnknown {
		return ""
	}
	for _, it := range a.kept.Items {
		if isApp(it.Ref) || it.Foreign {
			continue
		}
		if blind := e.parts.Eyes.Blind(it.Ref); blind != nil {
			return hint(apply.Explain(it.Ref, blind))
		}
	}
	return ""
}

// seenKind has those apps looked at that own objects of a kind that can't be
// watched any more, or can be again.
func (e *Engine) seenKind(kind fleet.ObjectRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, a := range e.apps {
		for _, it := range a.kept.Items {
			if it.Ref.Group == kind.Group && it.Ref.Kind == kind.Kind {
				e.work.Add(name)
				break
			}
		}
	}
}

// askedPause is how long the API server asked to be left alone, where an error
// says so; otherwise it is 0.
func askedPause(err error) time.Duration {
	if asks, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return min(asks.RetryAfter(), longestPause)
	}
	return 0
}

// longestPause bounds what an API server may ask for.
const longestPause = 10 * time.Minute
