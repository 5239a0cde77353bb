package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const reasonPinned = "Pinned"

// reasonRollingBack is that of an app which does not run yet what it is pinned to.
const reasonRollingBack = "RollingBack"

// pin is an app as a rollback wants it: at a revision of its own history.
type pin struct {
	base *v1alpha1.App // as Git has it
	hold fleet.Hold
	to   state.Entry
	want want
}

// holding are the orders that count once an intent has been taken. Those of
// people whose app has gone stay: they said nothing else.
func holding(in fleet.Intent, before []fleet.HoldOrder) []fleet.HoldOrder {
	return slices.DeleteFunc(in.MergeHolds(before), func(o fleet.HoldOrder) bool { return o.Lifted })
}

// holdsMoved has the apps looked at whose orders are others than before. Called
// with e.mu held.
func (e *Engine) holdsMoved(before, now []fleet.HoldOrder) {
	for _, o := range now {
		if slices.ContainsFunc(before, func(b fleet.HoldOrder) bool { return b.App == o.App && b.Equal(o.Hold) }) {
			continue
		}
		if a := e.apps[o.App]; a != nil && o.Kind == fleet.HoldRollback {
			if why := e.refuses(o.App, o.Hold); why != "" {
				e.parts.Record.Event(o.App, true, "RollbackRefused", why)
			} else {
				e.parts.Record.Event(o.App, false, reasonPinned, describePin(o.Hold))
			}
		}
		e.now(o.App)
	}
	for _, o := range before {
		if slices.ContainsFunc(now, o.Same) {
			continue
		}
		if a := e.apps[o.App]; a != nil && o.Kind == fleet.HoldRollback {
			e.parts.Record.Event(o.App, false, "Unpinned", "the app follows Git again")
		}
		e.now(o.App)
	}
}

// holdsOf are the holds people asked for on an app, with why one is refused.
// Called with e.mu held.
func (e *Engine) holdsOf(name fleet.AppName) []fleet.Hold {
	var out []fleet.Hold
	for _, o := range e.world.self.Holds {
		if o.App == name {
			h := o.Hold
			h.Refused = e.refuses(name, h)
			out = append(out, h)
		}
	}
	return out
}

// held is the hold of a kind that is in force. Called with e.mu held.
func (e *Engine) held(name fleet.AppName, kind fleet.HoldKind) *fleet.Hold {
	for _, o := range e.world.self.Holds {
		if o.App == name && o.Kind == kind && e.refuses(name, o.Hold) == "" {
			return &o.Hold
		}
	}
	return nil
}

// refuses says why a hold is not heeded here; "": it is. Whoever holds the hub
// could otherwise stop what guards a cluster, or have it run what never ran.
// Called with e.mu held.
func (e *Engine) refuses(name fleet.AppName, h fleet.Hold) string {
	known := h.Kind == fleet.HoldSuspend || h.Kind == fleet.HoldRollback
	switch {
	case !known:
		return "this agent does not know how to " + tidy(string(h.Kind))
	case name == e.root:
		return "the root itself is always followed: hold the apps it brings"
	case e.cfg.HubMay != nil && !slices.Contains(e.cfg.HubMay, h.Kind):
		return fmt.Sprintf("this cluster does not let the hub %s apps (hub.may in its agent's configuration)", h.Kind)
	case e.cfg.HubMay == nil && h.Kind == fleet.HoldSuspend && e.isGuarded(name):
		return "this cluster does not let the hub suspend an app whose plans need approval (hub.may in its agent's configuration); spec.suspend in Git does"
	case h.Kind == fleet.HoldRollback && e.entryOf(name, h) == nil:
		return fmt.Sprintf("%s is not in the app's history here", tidy(h.Revision.Short()))
	}
	return ""
}

// isGuarded tells an app whose plans need approval. Called with e.mu held.
func (e *Engine) isGuarded(name fleet.AppName) bool {
	return len(e.demandsAt(name, e.world.wanted[name].app, e.world.labels)) > 0
}

// entryOf is what the app's own history has of a rollback's commit: with the
// content that is meant, where that came of it more than once.
func (e *Engine) entryOf(name fleet.AppName, h fleet.Hold) *state.Entry {
	a, commit := e.apps[name], h.Revision.Commit()
	if a == nil || commit == "" {
		return nil
	}
	var found *state.Entry
	for i, past := range a.kept.History {
		if past.Revision.Commit() != commit {
			continue
		}
		if found == nil || past.Digest == h.Digest && found.Digest != h.Digest {
			found = &a.kept.History[i]
		}
	}
	return found
}

// wanted is an app as it is meant to be here: as Git has it, or as a person
// rolled it back. Called with e.mu held.
func (e *Engine) wanted(name fleet.AppName) (want, bool) {
	w, ok := e.world.wanted[name]
	if !ok {
		return w, false
	}
	if p := e.pinOf(name, w); p != nil {
		return p.want, true
	}
	return w, true
}

// pinOf is what an app is rolled back to; nil: it is not. Called with e.mu held.
func (e *Engine) pinOf(name fleet.AppName, w want) *pin {
	h := e.held(name, fleet.HoldRollback)
	if h == nil || w.app == nil {
		return nil
	}
	a := e.apps[name]
	if a.pin == nil || a.pin.base != w.app || !a.pin.hold.Equal(*h) {
		a.pin = newPin(w, *h, *e.entryOf(name, *h))
	}
	return a.pin
}

// newPin takes from the App as it was then what says what runs, and its commit;
// what bounds it, as approval and sync, is as Git has it now.
func newPin(w want, h fleet.Hold, to state.Entry) *pin {
	app := w.app.DeepCopy()
	if then := keptSpec(state.App{Spec: to.Spec}); then != nil {
		app.Spec.Source, app.Spec.TargetNamespace, app.Spec.Decryption = then.Source, then.TargetNamespace, then.Decryption
	}
	app.Spec.Source.Ref = &v1alpha1.AppRef{Commit: to.Revision.Commit()}
	p := &pin{base: w.app, hold: h, to: to, want: w}
	p.want.app, p.want.spec = app, must(fleet.Canonical(app.Spec))
	return p
}

// must is for what was decoded from JSON a moment ago, which always encodes.
func must(b json.RawMessage, err error) json.RawMessage {
	if err != nil {
		panic(err)
	}
	return b
}

// action is what a plan of the app is for.
func (p *pin) action() fleet.Action {
	if p == nil {
		return fleet.ActionApply
	}
	return fleet.ActionRollback
}

// differs says that what a rollback comes to is not what ran at its revision.
func (p *pin) differs(digest fleet.Digest) string {
	if p == nil || digest == p.to.Digest {
		return ""
	}
	return fmt.Sprintf("this is not what ran at %s: labels, values, the App's sync policy or the renderer have changed since", p.to.Revision.Short())
}

// asPinned puts into a status that the app is kept at a revision.
func asPinned(s fleet.AppStatus, p *pin) fleet.AppStatus {
	said := []string{describePin(p.hold)}
	if s.Digest != fleet.NoDigest && s.Revision.Commit() == p.to.Revision.Commit() {
		if why := p.differs(s.Digest); why != "" {
			said = append(said, why)
		}
	}
	switch {
	case s.Reason == reasonSource:
		said[0] = strings.TrimSuffix(said[0], pinnedUntil) + ", which can't be read"
		s.Hint = "bring the commit to the repository or to a mirror; or let the app follow Git again: capstan resume " + s.Name().String() + " --cluster " + s.Cluster
	case s.Sync == fleet.Synced && s.Revision.Commit() != p.to.Revision.Commit():
		s.Sync, s.Reason = fleet.OutOfSync, reasonRollingBack // it was not looked at since
	case s.Sync == fleet.Synced && s.Reason == string(fleet.Healthy):
		s.Reason = reasonPinned
	}
	if s.Message != "" {
		said = append(said, s.Message)
	}
	s.Message = strings.Join(said, "; ")
	return s
}

// pinnedUntil ends what is said of a pin.
const pinnedUntil = ", until it is resumed"

func describePin(h fleet.Hold) string {
	return fmt.Sprintf("pinned to %s by %s%s", h.Revision.Short(), describeHold(h), pinnedUntil)
}

// describeHold says who, since when, and why.
func describeHold(h fleet.Hold) string {
	text := tidy(h.By) + " since " + h.At.UTC().Format(time.RFC3339)
	if h.Why != "" {
		text += " (" + tidy(h.Why) + ")"
	}
	return text
}

// tidy keeps what a stranger wrote short and printable: it goes into conditions
// and onto terminals.
func tidy(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > fleet.MaxWhy {
		s = strings.ToValidUTF8(s[:fleet.MaxWhy], "") + "..."
	}
	return s
}
