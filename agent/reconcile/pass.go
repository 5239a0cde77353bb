package reconcile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// proposal is a change before the gates.
type proposal struct {
	action   fleet.Action
	to       fleet.Digest
	revision fleet.Revision
	wanted   *fleet.Document
	delta    inventory.Delta
	demands  []gate.Demand
	account  string // as whom it would be done
	guard    string // why the prune guard stops it, or ""
	again    bool   // it passed before, and goes on
	note     string // what else people have to know, or ""
	hooks    []hooks.Hook
}

// passage is what the gates said.
type passage struct {
	open    bool
	granted bool     // somebody had to let it through
	by      []string // who
	message string   // why it waits
	have    int
	need    int
}

// pass takes a proposal to the gates. A plan is made, and kept under the same
// id for as long as it would do the same; a plan that is let through is written
// down as granted before it is carried out. kept is brought up to date.
func (e *Engine) pass(ctx context.Context, kept *state.App, p proposal) (_ passage, err error) {
	pulseOf(ctx).carries(p.revision, p.to)
	if !p.again {
		var done func(error)
		ctx, done = beginStep(ctx, e.parts.Meter, Step{App: kept.Name, Phase: PhaseGate, Revision: p.revision, Digest: p.to})
		defer func() { done(err) }()
	}
	if g := kept.Granted; g != nil && g.Action == p.action && g.To == p.to {
		return passage{open: true, granted: true, by: g.By}, nil
	}
	if len(p.demands) == 0 && p.guard == "" {
		return passage{open: true}, nil
	}
	if err := e.propose(ctx, kept, p); err != nil {
		return passage{}, err
	}
	got := e.decide(*kept, p.demands)
	if !got.open {
		if p.guard != "" {
			got.message = p.guard + "; " + got.message
		}
		return got, nil
	}
	kept.Granted = &state.Grant{Plan: kept.Pending.ID, Action: p.action, To: p.to, By: got.by}
	kept.Use(kept.Pending.ID)
	if err := e.save(ctx, *kept); err != nil {
		return passage{}, err
	}
	e.parts.Record.Event(kept.Name, false, "Approved", fmt.Sprintf("plan %s was let through by %s", kept.Pending.ID, strings.Join(got.by, ", ")))
	return got, nil
}

// propose makes the plan, unless the one that waits is it.
func (e *Engine) propose(ctx context.Context, kept *state.App, p proposal) error {
	action, g := p.action, fleet.GateApproval
	if len(p.demands) == 0 {
		g = fleet.GateConfirmPrune
		if action == fleet.ActionApply || action == fleet.ActionRollback {
			action = fleet.ActionConfirmPrune
		}
	}
	if was := kept.Pending; was != nil && was.Action == action && was.From == kept.Digest && was.To == p.to && was.Gate == g && !slices.Contains(kept.Used, was.ID) {
		return nil
	}
	applied, err := kept.Applied()
	if err != nil {
		return err
	}
	delta := p.delta
	delta.Apply = withOldMasks(delta.Apply, applied)
	changes, err := e.parts.Cluster.As(kept.Name, p.account).Preview(ctx, kept.Name, delta, e.cfg.MaskKey)
	if err != nil {
		return err
	}
	changes, err = withHooks(changes, p.hooks, applied, e.cfg.MaskKey)
	if err != nil {
		return err
	}
	reason := "approval is needed on this cluster"
	if p.guard != "" {
		reason = p.guard
	}
	if p.note != "" {
		reason += "; " + p.note
	}
	if g := kept.Granted; g != nil && len(g.Apps) == 0 {
		kept.Granted = nil // something else is wanted than was let through
	}
	kept.Pending = &fleet.Plan{
		ID: rand.Text(), Action: action, App: kept.Name, Cluster: e.cfg.Cluster, ClusterUID: e.cfg.UID,
		From: kept.Digest, To: p.to, Revision: p.revision, Gate: g, Reason: reason,
		Created: e.parts.Now().UTC(), Changes: changes, Wanted: p.wanted,
	}
	if err := e.save(ctx, *kept); err != nil {
		return err
	}
	e.parts.Record.Event(kept.Name, false, "Pending", fmt.Sprintf("plan %s waits: %s", kept.Pending.ID, reason))
	return nil
}

// decide weighs what has arrived for the plan that waits.
func (e *Engine) decide(kept state.App, demands []gate.Demand) passage {
	p := *kept.Pending
	confirmOnly := len(demands) == 0
	if confirmOnly {
		if e.parts.Record.Confirmed(kept.Name) == p.ID {
			return passage{open: true, granted: true, by: []string{"annotation " + ConfirmAnnotation}}
		}
		anybody := e.cfg.Policy.Demands(kept.Name, &gate.AppApproval{})
		demands = anybody
	}
	used := make(map[string]bool, len(kept.Used))
	for _, id := range kept.Used {
		used[id] = true
	}
	e.mu.Lock()
	approvals, rejected := e.world.self.Intent.Approvals, e.world.self.Intent.Rejected
	e.mu.Unlock()
	d := gate.Decide(gate.Input{Plan: p, Demands: demands, Allowed: e.cfg.Policy.Allowed, Approvals: approvals, Used: used, Now: e.parts.Now()})
	got := passage{open: d.Open, granted: d.Open, by: d.ApprovedBy, message: d.Message, have: d.Have, need: d.Need}
	if !got.open && confirmOnly {
		got.message = fmt.Sprintf("confirm with: kubectl -n %s annotate app %s %s=%s", kept.Name.Namespace, kept.Name.Name, ConfirmAnnotation, p.ID)
	}
	for _, r := range rejected {
		if !got.open && r.Plan == p.ID {
			got.message += "; rejected by " + r.By
			if r.Why != "" {
				got.message += ": " + r.Why
			}
		}
	}
	return got
}

// ConfirmAnnotation on an App, with the plan's id as value, confirms a prune
// that the guard stopped on a cluster that needs no approvals. On the root, with
// the commits from and to as value, it confirms that a branch was moved.
const ConfirmAnnotation = "capstan.dev/confirm-prune"

// mayPass tells whether the plan that waits could go on now: only then is it
// worth rendering again.
func (e *Engine) mayPass(v view) bool {
	k := v.kept
	if k.Granted != nil || k.Pending == nil {
		return true
	}
	var demands []gate.Demand
	if v.want != nil {
		demands = e.demands(v.name, v.want.app)
	} else {
		demands = e.demands(v.name, nil)
	}
	if len(demands) == 0 && k.Pending.Gate == fleet.GateApproval {
		return true // nobody asks for one any more
	}
	got := e.decide(k, demands)
	if !got.open {
		if k.Pending.Gate == fleet.GateConfirmPrune {
			got.message = k.Pending.Reason + "; " + got.message
		}
		e.wait(v.name, got, v.last)
	}
	return got.open
}

func hint(err error) string {
	if h := fleet.Hint(err); h != "" {
		return h
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, one := range joined.Unwrap() {
			if h := hint(one); h != "" {
				return h
			}
		}
	}
	return ""
}
