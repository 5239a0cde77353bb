package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/capstan-gitops/capstan/agent/selection"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// follow has the repositories followed until ctx ends.
func (e *Engine) follow(ctx context.Context) {
	err := e.parts.Sources.Run(ctx, e.moved)
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, fleet.ErrConflict):
		e.giveUp(errors.Join(errOtherAgent, err))
	default:
		e.giveUp(err)
	}
}

// moved has those looked at that read from a repository that moved. What is read
// from the agent's own waits for the root, which says what is wanted.
func (e *Engine) moved(m unit.Moved) {
	apps := m.Apps
	if m.Own {
		apps = []fleet.AppName{e.root}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range apps {
		if !m.Head {
			e.work.Add(name)
			continue
		}
		e.now(name)
		if s := e.latest(name).Snapshot; s != nil && s.Rewound != "" {
			e.parts.Record.Event(name, true, "Rewound", fmt.Sprintf("%s was moved to %s, which does not come after %s", s.Ref, s.Commit, s.Rewound))
		}
	}
	switch {
	case m.Own && m.Head:
		e.world.moved = true
	case m.Head:
		e.expect()
	}
}

// latest is what is known of what an app is read from. Called with e.mu held.
func (e *Engine) latest(name fleet.AppName) unit.Followed {
	w, _ := e.wanted(name)
	return e.parts.Sources.Latest(name, sourceOf(w))
}

// sourceOf is what an app is read from; of the root, which nobody wants, it is
// the agent's own repository.
func sourceOf(w want) unit.Source {
	if w.app == nil {
		return unit.Source{}
	}
	s := w.app.Spec.Source
	out := unit.Source{RepoURL: s.RepoURL}
	if s.Ref != nil {
		out.Ref = unit.Ref(*s.Ref)
	}
	if s.SecretRef != nil {
		out.Secret = unit.SecretName{Namespace: w.app.Namespace, Name: s.SecretRef.Name}
	}
	return out
}

const reasonSource = "SourceFailed"

// sourceTrouble shows whether what an app is read from fails: what was read
// before stays in force. Where the agent's own repository fails, that shows on
// the root alone.
func (e *Engine) sourceTrouble(name fleet.AppName, f unit.Followed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil {
		return
	}
	a.from = nil
	elsewhere := f.Own && name != e.root
	if from := f.Status; !elsewhere && from.URL != "" {
		from.Head, from.Message = "", "" // a commit elsewhere, or the same words again, are no news of the app
		a.from = &from
	}
	if f.Err == nil || elsewhere {
		a.source = nil
		return
	}
	p := problem{reason: reasonSource, message: oneLine(f.Err), hint: hint(f.Err), unknown: true}
	if held, ok := errors.AsType[*unit.RewoundError](f.Err); ok {
		p.hint = fmt.Sprintf("push a commit that comes after %s, as git revert makes one; or let it be followed: kubectl -n %s annotate --overwrite app %s %s=%s",
			held.From, name.Namespace, name.Name, ConfirmAnnotation, held.Accept())
	}
	if a.source == nil || *a.source != p {
		e.parts.Record.Event(name, true, p.reason, p.message)
	}
	a.source = &p
}

// acceptMove lets a branch that is held be moved, where a person confirmed that.
func (e *Engine) acceptMove(name fleet.AppName, f unit.Followed) {
	held, ok := errors.AsType[*unit.RewoundError](f.Err)
	if ok && (!f.Own || name == e.root) && e.parts.Record.Confirmed(name) == held.Accept() {
		e.parts.Sources.Accept(name, held.Accept())
	}
}

func (e *Engine) effective(assigned map[string]string) map[string]string {
	return selection.Effective(e.cfg.Declared, assigned, e.cfg.Assignable)
}

// facts are what a render may know.
func (e *Engine) facts() unit.Facts {
	return unit.Facts{Cluster: e.cfg.Cluster, Labels: e.world.labels, Kubernetes: e.cfg.KubernetesVersion}
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
	e.expect()
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

// expect tells the repositories which paths will be rendered. Called with e.mu held.
func (e *Engine) expect() {
	paths := map[unit.Ahead][]string{}
	for name := range e.world.wanted {
		w, _ := e.wanted(name)
		if at := e.latest(name).Snapshot; at != nil {
			if tree, ok := at.Tree.(unit.Ahead); ok {
				paths[tree] = append(paths[tree], w.app.Spec.Source.Path)
			}
		}
	}
	for tree, all := range paths {
		tree.Expect(all)
	}
}

// now has an app looked at at once, however often it failed. Called with e.mu held.
func (e *Engine) now(name fleet.AppName) {
	if a := e.apps[name]; a != nil {
		a.tries = tries{asked: true}
	}
	e.work.Add(name)
}

// revision is what the root is read from now, or "". Called with e.mu held.
func (e *Engine) revision() fleet.Revision {
	if s := e.latest(e.root).Snapshot; s != nil {
		return s.Revision()
	}
	return ""
}
