package reconcile

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/selection"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// holdVanished stops the removal of Apps that left Git, or that a commit took
// off this cluster, where the guard finds them too many, until a person
// confirms. Apps that a label took away are not counted: that is deliberate.
func (e *Engine) holdVanished(ctx context.Context, v *view, c *rootContent) (bool, error) {
	e.mu.Lock()
	labels := e.world.chosen
	e.mu.Unlock()
	vanished, reason := e.vanished(v.kept, c, labels)
	if g := v.kept.Granted; len(vanished) == 0 && g != nil && g.Action == fleet.ActionConfirmPrune {
		v.kept.Granted = nil // what was confirmed is done, or is in Git again
	}
	if reason == "" {
		e.hold(nil)
		return true, nil
	}
	// Whoever approves recomputes the digest from what the plan carries.
	doc := fleet.Document{RepoURL: c.repoURL, Objects: refsJSON(vanished)}
	to, err := doc.Digest()
	if err != nil {
		return false, err
	}
	kept := v.kept
	pass, err := e.pass(ctx, &kept, proposal{
		action: fleet.ActionConfirmPrune, to: to, revision: c.revision, wanted: &doc, guard: reason, delta: inventory.Delta{Prune: vanished},
		demands: e.demands(e.root, nil),
	})
	v.kept = kept
	if err != nil {
		return false, err
	}
	if !pass.open {
		e.hold(vanished)
		e.wait(e.root, pass, nil)
		return false, nil
	}
	v.kept.Granted.Apps = refNames(vanished)
	v.kept.Pending = nil
	if err := e.save(ctx, v.kept); err != nil {
		return false, err
	}
	e.hold(nil)
	return true, nil
}

// vanished are the Apps that a commit took away from a cluster with these
// labels, and why the guard holds them: "" where it does not, or where a person
// has confirmed.
func (e *Engine) vanished(kept state.App, c *rootContent, labels map[string]string) ([]inventory.Item, string) {
	var vanished []inventory.Item
	owned := itemsOf(kept.Items, isApp)
	stay := len(c.doubtful)
	before := sync.OnceValue(func() map[fleet.AppName]bool { return e.selectedBefore(kept, labels) })
	for _, it := range owned {
		name := fleet.AppName{Namespace: it.Ref.Namespace, Name: it.Ref.Name}
		w, inGit := c.apps[name]
		switch {
		case c.doubtful[name] != nil: // counted already
		case !inGit, !isFor(w.app, labels) && before()[name]:
			vanished = append(vanished, it)
		default:
			stay++
		}
	}
	if g := kept.Granted; g != nil && g.Action == fleet.ActionConfirmPrune && covers(g.Apps, vanished) {
		return vanished, ""
	}
	if len(c.apps) > 0 {
		stay = max(stay, 1) // the root is not empty, even if nothing in it is for this cluster
	}
	return vanished, e.cfg.Guard.Check(vanished, stay, len(owned))
}

// selectedBefore are the Apps whose selector, as it was applied last, takes a
// cluster with these labels: if it does not now, a commit changed it.
func (e *Engine) selectedBefore(kept state.App, labels map[string]string) map[fleet.AppName]bool {
	out := map[fleet.AppName]bool{}
	objects, err := kept.Applied()
	if err != nil {
		return out // we wrote it; without it the guard still counts what left Git
	}
	for _, o := range objects {
		if !isApp(o.Ref) {
			continue
		}
		if name, w, err := e.readApp(o); err == nil && isFor(w.app, labels) {
			out[name] = true
		}
	}
	return out
}

// isFor tells whether an App is for a cluster with these labels.
func isFor(a *v1alpha1.App, labels map[string]string) bool {
	ok, err := selection.Matches(a.Spec.Clusters, labels)
	return ok && err == nil
}

// heldNow are the Apps whose removal waits.
func (e *Engine) heldNow() map[fleet.AppName]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.world.held
}

// heldObjects are the App objects, as they were applied last, of Apps whose
// removal waits: they stay as they are.
func heldObjects(kept state.App, held map[fleet.AppName]bool) ([]unit.Object, error) {
	if len(held) == 0 {
		return nil, nil
	}
	objects, err := kept.Applied()
	return slices.DeleteFunc(objects, func(o unit.Object) bool {
		return !isApp(o.Ref) || !held[fleet.AppName{Namespace: o.Ref.Namespace, Name: o.Ref.Name}]
	}), err
}

func (e *Engine) hold(items []inventory.Item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setHeld(items)
}

// setHeld is hold, called with e.mu held.
func (e *Engine) setHeld(items []inventory.Item) {
	held := make(map[fleet.AppName]bool, len(items))
	for _, it := range items {
		held[fleet.AppName{Namespace: it.Ref.Namespace, Name: it.Ref.Name}] = true
	}
	if !maps.Equal(held, e.world.held) {
		e.world.held, e.world.moved = held, true
	}
}

func refNames(items []inventory.Item) []string {
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = it.Ref.String()
	}
	return out
}

func refsJSON(items []inventory.Item) []json.RawMessage {
	var out []json.RawMessage
	for _, it := range items {
		b, _ := json.Marshal(it.Ref) // a struct of strings always encodes
		out = append(out, b)
	}
	return out
}

func covers(granted []string, items []inventory.Item) bool {
	for _, n := range refNames(items) {
		if !slices.Contains(granted, n) {
			return false
		}
	}
	return true
}
