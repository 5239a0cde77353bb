package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What follows is what the uplink asks of the engine.

// Report says how the cluster is.
func (e *Engine) Report() fleet.ClusterReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := fleet.ClusterReport{
		UID: e.cfg.UID, AgentVersion: e.cfg.AgentVersion, KubernetesVersion: e.cfg.KubernetesVersion,
		Declared: e.cfg.Declared, Assignable: e.cfg.Assignable, Head: e.revision(),
	}
	r.Sources = e.parts.Sources.Statuses()
	own, root := e.latest(e.root), e.apps[e.root]
	switch {
	case own.Err != nil:
		r.Message = own.Err.Error()
	case root != nil && root.problem != nil:
		r.Message = root.problem.message
	case own.Snapshot != nil:
		r.Message = own.Snapshot.Notice
	}
	return r
}

// Statuses gives every app's status.
func (e *Engine) Statuses() []fleet.AppStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []fleet.AppStatus
	for _, a := range e.apps {
		if a.status.App != "" {
			out = append(out, a.status)
		}
	}
	return out
}

// TakeIntent makes a newer intent the spoke's own: it is kept before it counts.
func (e *Engine) TakeIntent(ctx context.Context, in fleet.Intent) error {
	e.mu.Lock()
	before := e.world.self
	e.mu.Unlock()
	if in.Instance == before.Intent.Instance && in.Revision == before.Intent.Revision {
		return nil // it is kept, and counts already
	}
	next := self{Assigned: in.Merge(before.Assigned), Intent: in, Holds: holding(in, before.Holds), Clock: e.parts.Now().UTC()}
	if err := e.parts.Memory.Save(ctx, selfName, next); err != nil {
		if errors.Is(err, fleet.ErrConflict) {
			e.giveUp(errors.Join(errOtherAgent, err))
		}
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.world.self = next
	labels := e.effective(next.Assigned)
	if !mapsEqual(labels, e.world.labels) {
		e.log.Info("labels moved", "labels", labels)
		e.world.labels, e.world.moved = labels, true
		e.now(e.root)
	}
	for name, a := range e.apps {
		if a.kept.Pending != nil {
			e.work.Add(name)
		}
	}
	e.holdsMoved(before.Holds, next.Holds)
	for _, s := range in.Syncs {
		if slices.ContainsFunc(before.Intent.Syncs, func(o fleet.SyncRequest) bool { return o.ID == s.ID }) {
			continue
		}
		e.parts.Sources.FetchSoon(s.App)
		if a := e.apps[s.App]; a != nil {
			a.retry = true
			e.now(s.App)
		}
	}
	return nil
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// Plan gives the plan that waits for an app, signed. fleet.ErrNotFound: none does.
func (e *Engine) Plan(name fleet.AppName) (fleet.SignedPlan, error) {
	k, err := e.keptOf(name)
	if err != nil {
		return fleet.SignedPlan{}, err
	}
	if k.Pending == nil {
		return fleet.SignedPlan{}, fleet.NotFound("nothing waits for %s on %s", name, e.cfg.Cluster)
	}
	return e.parts.Reports.SignPlan(*k.Pending)
}

// History gives what was applied, newest first. fleet.ErrNotFound: no such app.
func (e *Engine) History(name fleet.AppName) ([]fleet.HistoryEntry, error) {
	k, err := e.keptOf(name)
	if err != nil {
		return nil, err
	}
	out := make([]fleet.HistoryEntry, len(k.History))
	for i, h := range k.History {
		out[i] = h.HistoryEntry
	}
	return out, nil
}

// Tree gives the objects an app owns. fleet.ErrNotFound: no such app.
func (e *Engine) Tree(name fleet.AppName) ([]fleet.Object, error) {
	k, err := e.keptOf(name)
	if err != nil {
		return nil, err
	}
	within := e.progressWithinOf(name)
	out := make([]fleet.Object, 0, len(k.Items))
	for _, it := range slices.Concat(k.Items, k.Made) {
		o := fleet.Object{Object: it.Ref, Health: fleet.Progressing}
		if s, ok := e.parts.Eyes.See(it.Ref); ok {
			s, _ = overdue(s, within, time.Now())
			o.Health, o.Message = s.Health, s.Message
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b fleet.Object) int { return a.Object.Compare(b.Object) })
	return out, nil
}

func (e *Engine) keptOf(name fleet.AppName) (state.App, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil {
		return state.App{}, fleet.NotFound("there is no app %s on %s", name, e.cfg.Cluster)
	}
	return a.kept, nil
}

// GitPushed says that somebody pushed to a repository.
func (e *Engine) GitPushed(p fleet.Push) { e.parts.Sources.Pushed(p) }

// Floor is the highest time seen before the restart.
func (e *Engine) Floor() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.world.self.Clock
}

func isUnknownKind(err error) bool {
	var noMatch *meta.NoKindMatchError
	return errors.As(err, &noMatch)
}
