package reconcile

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// holdVanished stops the removal of Apps that left Git where the guard finds
// them too many, until a person confirms. Apps that merely do not match this
// cluster's labels any more are not counted: taking a label away is deliberate.
func (e *Engine) holdVanished(ctx context.Context, v *view, c *rootContent) (bool, error) {
	var vanished []inventory.Item
	owned := itemsOf(v.kept.Items, isApp)
	for _, it := range owned {
		name := fleet.AppName{Namespace: it.Ref.Namespace, Name: it.Ref.Name}
		if _, inGit := c.apps[name]; !inGit && c.doubtful[name] == nil {
			vanished = append(vanished, it)
		}
	}
	reason := e.cfg.Guard.Check(vanished, len(c.apps)+len(c.doubtful), len(owned))
	if len(vanished) == 0 {
		v.kept.Granted = nil
	}
	if reason == "" {
		e.hold(nil)
		return true, nil
	}
	to, err := fleet.Document{RepoURL: c.repoURL, Objects: refsJSON(vanished)}.Digest()
	if err != nil {
		return false, err
	}
	if g := v.kept.Granted; g != nil && g.Action == fleet.ActionConfirmPrune && covers(g.Apps, vanished) {
		e.hold(nil)
		return true, nil
	}
	kept := v.kept
	pass, err := e.pass(ctx, &kept, proposal{
		action: fleet.ActionConfirmPrune, to: to, revision: c.revision, guard: reason, delta: inventory.Delta{Prune: vanished},
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

func (e *Engine) hold(items []inventory.Item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.world.held = map[fleet.AppName]bool{}
	for _, it := range items {
		e.world.held[fleet.AppName{Namespace: it.Ref.Namespace, Name: it.Ref.Name}] = true
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
