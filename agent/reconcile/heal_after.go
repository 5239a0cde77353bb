package reconcile

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// healPolicy is whether, and when, what others change is undone.
type healPolicy struct {
	heal  bool
	after time.Duration // for so long it may stand
}

// healPolicy is the app's. Called with e.mu held.
func (e *Engine) healPolicy(name fleet.AppName, kept state.App) healPolicy {
	policyOf := func(s v1alpha1.AppSync) healPolicy {
		if e.apps[name].healNow {
			return healPolicy{heal: s.SelfHealEnabled()}
		}
		return healPolicy{s.SelfHealEnabled(), s.HealAfter()}
	}
	p := healPolicy{heal: true}
	if w, ok := e.world.wanted[name]; ok {
		p = policyOf(w.app.Spec.Sync)
	} else if s := keptSpec(kept); s != nil && name != e.root {
		p = policyOf(s.Sync)
	}
	p.heal = p.heal && !e.suspends(name)
	return p
}

// healAtOnce has what others changed undone with this look, whether it stood for
// long enough or not, where a person asked for another try.
func (e *Engine) healAtOnce(v view) {
	if !v.retry {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[v.name]
	a.healNow = len(a.drift) > 0
	for ref := range a.drift {
		a.look[ref] = true
	}
}

// patientAgain ends healAtOnce.
func (e *Engine) patientAgain(name fleet.AppName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[name]; a != nil {
		a.healNow = false
	}
}

// stands is how long a drift may stand still.
func (p healPolicy) stands(d fleet.DriftSummary, now time.Time) time.Duration {
	if p.after == 0 {
		return 0
	}
	return d.Since.Add(p.after).Sub(now)
}

// changedAt is when a manager wrote what it holds of some fields, so that a drift
// that was there before a restart is as old as it is; now, where the object does
// not tell.
func changedAt(managers []metav1.ManagedFieldsEntry, manager string, fields []string, now time.Time) time.Time {
	var at time.Time
	for _, m := range managers {
		if m.Manager == manager && m.Subresource != "status" && m.Time != nil && m.Time.After(at) && holdsOne(m.FieldsV1, fields) {
			at = m.Time.Time
		}
	}
	if at.IsZero() || at.After(now) {
		return now
	}
	return at.UTC()
}

// untilHealed says when a drift that may stand for a while is undone.
func (p healPolicy) untilHealed(drift []fleet.DriftSummary) string {
	if !p.heal || p.after == 0 {
		return ""
	}
	first := drift[0].Since
	for _, d := range drift[1:] {
		if d.Since.Before(first) {
			first = d.Since
		}
	}
	return fmt.Sprintf("; it is put back at %s", first.Add(p.after).UTC().Format(time.RFC3339))
}
