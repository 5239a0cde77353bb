package reconcile

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// holdVanished stops the removal of Apps that left Git where the guard finds
// them too many, until a person confirms. Apps that merely do not match this
// cluster's labels any more are not counted: taking a label away is deliberate.
func (e *Engine) holdVanished(ctx context.Context, v *view, c *rootContent) (bool, error) {
	vanished, reason := e.vanished(v.kept, c)
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

// vanished are the Apps that left Git, and why the guard holds them: "" where
// it does not, or where a person has confirmed.
func (e *Engine) vanished(kept state.App, c *rootContent) ([]inventory.Item, string) {
	var vanished []inventory.Item
	owned := itemsOf(kept.Items, isApp)
	for _, it := range owned {
		name := fleet.AppName{Namespace: it.Ref.Namespace, Name: it.Ref.Name}
		if _, inGit := c.apps[name]; !inGit && c.doubtful[name] == nil {
			vanished = append(vanished, it)
		}
	}
	if g := kept.Granted; g != nil && g.Action == fleet.ActionConfirmPrune && covers(g.Apps, vanished) {
		return vanished, ""
	}
	return vanished, e.cfg.Guard.Check(vanished, len(c.apps)+len(c.doubtful), len(owned))
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
