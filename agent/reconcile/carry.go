package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// change is a render on its way to the cluster.
type change struct {
	spec      json.RawMessage // as the App has it
	effective json.RawMessage // what of it goes into the digest
	path      string
	reads     unit.ReadSet
	objects   []unit.Object
	revision  fleet.Revision
	repoURL   string
	pin       *pin   // a person rolled it back to this
	account   string // as whom it is applied; "": the agent itself
	deletion  v1alpha1.DeletionPolicy
	prune     bool
	force     bool
	demands   []gate.Demand

	waveWithin time.Duration // how long a wave may take
	resumed    bool          // it was begun, and goes on with a later wave

	hooks  []hooks.Hook // are not among objects
	sorted bool         // some of what is on the cluster is a hook now, or was one
	digest fleet.Digest // of all that is wanted
	labels string       // stand for the cluster's
	retry  bool         // a person asked for another try

	first *unit.Object // is sent before all others, alone

	// handsOver: other apps have some of it still, and wait for what leaves with it.
	handsOver bool

	// others are owned objects that this change is not about (the root's Apps).
	others []inventory.Item
	// alongside are the objects of others, kept with what was last applied.
	alongside []unit.Object
}

// carry takes a render through the gates and to the cluster, and writes down
// each step before the next depends on it: what may come to exist before it is
// applied, what is gone after it was pruned.
func (e *Engine) carry(ctx context.Context, v view, c change) error {
	asking, err := inventory.Asking(c.objects, c.force)
	if err != nil {
		return e.applyFailed(v.name, err)
	}
	c.objects = asking
	doc, err := plan.Document(c.effective, c.repoURL, c.all(), e.cfg.MaskKey)
	if err != nil {
		return err
	}
	if c.digest, err = doc.Digest(); err != nil {
		return err
	}
	c.labels, c.retry = labelsHash(v.facts.Labels), v.retry
	kept := v.kept
	kept.Items, kept.Made, c.sorted = hooks.Settle(kept.Items, kept.Made, c.objects, c.hooks)
	mine := slices.Concat(itemsWithout(kept.Items, c.others), hooks.Left(kept.Made, c.hooks))
	delta, err := e.weigh(ctx, kept, c, mine)
	if err != nil {
		return e.failedOr(v.name, err)
	}
	extra := 0
	if !c.prune {
		extra, delta.Prune = len(delta.Prune), nil
	}
	if c.digest == kept.Digest && delta.IsNothing() {
		return e.sameContent(ctx, kept, c, extra)
	}
	e.sending(v.name, delta.Apply, delta.Prune)
	pass, err := e.pass(ctx, &kept, proposal{
		action: c.pin.action(), note: c.pin.differs(c.digest), to: c.digest, revision: c.revision, wanted: &doc, delta: delta, demands: c.demands, account: c.account,
		guard: e.guarded(delta, len(c.objects), len(mine)), hooks: c.hooks, again: c.resumed,
	})
	if err != nil {
		return e.failedOr(v.name, err)
	}
	if !pass.open {
		e.wait(v.name, pass, &outcome{spec: string(c.spec), reads: c.reads})
		return nil
	}
	if c.handsOver {
		return e.handOver(ctx, kept, c, delta)
	}
	return e.carryOut(ctx, kept, c, delta, extra, pass)
}

// carryOut does what was let through.
func (e *Engine) carryOut(ctx context.Context, kept state.App, c change, delta inventory.Delta, extra int, pass passage) error {
	name := kept.Name
	if !c.resumed {
		var err error
		if c.first, err = e.checkFirst(ctx, kept, c, delta); err != nil {
			return e.failedOr(name, err)
		}
	}
	kept.Account, kept.Deletion = c.account, c.deletion
	begins, anew := e.begin(&kept, c, len(delta.Apply) > 0), e.expectAnew(&kept, delta.Apply)
	if begins || anew || c.sorted || len(delta.New) > 0 || pass.granted && !c.resumed {
		kept.Items = inventory.Extend(kept.Items, delta.New)
		if err := e.save(ctx, kept); err != nil {
			return err
		}
	}
	if err := e.watchKinds(ctx, c.all()); err != nil {
		return e.failedOr(name, err)
	}
	done, waits, err := e.inOrder(ctx, &kept, c, delta)
	e.dated(&kept, c.digest, waits)
	if err == nil && waits != nil && waits.tooLong(waits.asOf) {
		_, err = e.failHooks(ctx, &kept, c)
	}
	if err == nil && waits != nil {
		return e.stop(ctx, kept, c, done, *waits)
	}
	if err == nil {
		waits, err = e.clearUp(ctx, &kept, c, delta)
		e.dated(&kept, c.digest, waits)
	}
	if err == nil && waits != nil {
		return e.stop(ctx, kept, c, done, *waits)
	}
	if err != nil {
		kept.Items = withoutRefused(kept.Items, delta.New, err)
		return e.broke(ctx, kept, c, done, err)
	}
	kept.Halfway = false
	return e.carriedOut(ctx, kept, c, delta, extra, pass)
}

// carriedOut notes that a change is done.
func (e *Engine) carriedOut(ctx context.Context, kept state.App, c change, delta inventory.Delta, extra int, pass passage) error {
	name := kept.Name
	kept.Items, kept.Made = itemsWithout(kept.Items, delta.Keep), itemsWithout(kept.Made, delta.Keep)
	summary := summarize(delta)
	if r := running(&kept, c); r != nil {
		summary.Hooks = len(r.Ran)
	}
	kept.Run = finished(kept, c)
	kept.Digest, kept.Revision, kept.Path, kept.Spec, kept.Reads = c.digest, c.revision, c.path, c.spec, c.reads
	kept.Pending, kept.Granted, kept.Waits = nil, confirmed(kept.Granted), nil
	kept.Remember(fleet.HistoryEntry{Revision: c.revision, Digest: c.digest, Applied: e.parts.Now().UTC(), ApprovedBy: pass.by, Summary: summary})
	kept.Images = images.Used(c.all())
	if err := kept.SetObjects(append(c.all(), c.alongside...)); err != nil {
		return err
	}
	if err := e.saveDone(ctx, kept, delta, pass); err != nil {
		return err
	}
	e.settle(name, extra)
	e.parts.Record.Event(name, false, "Applied", fmt.Sprintf("%s: %d created, %d updated, %d pruned",
		c.revision.Short(), summary.Create, summary.Update, summary.Prune))
	return nil
}

// sameContent: the render gave what is applied. Only what it was rendered from
// is new, and with it the revision.
func (e *Engine) sameContent(ctx context.Context, kept state.App, c change, extra int) error {
	known := !c.sorted && !abandoned(kept) && kept.Revision == c.revision && kept.Path == c.path && string(kept.Spec) == string(c.spec) && kept.Pending == nil && kept.Granted == nil && !kept.Halfway && kept.Account == c.account
	if !known {
		kept.Halfway, kept.Waits, kept.Account = false, nil, c.account
		if abandoned(kept) {
			kept.Run = nil
			if err := e.findMade(ctx, &kept); err != nil {
				return e.failedOr(kept.Name, err)
			}
		}
		kept.Revision, kept.Path, kept.Spec, kept.Reads = c.revision, c.path, c.spec, c.reads
		kept.Pending, kept.Granted = nil, confirmed(kept.Granted)
		if err := e.save(ctx, kept); err != nil {
			return err
		}
	}
	e.settle(kept.Name, extra)
	return nil
}

// confirmed keeps the one grant that outlives a change: the removal of Apps
// that a person confirmed, which each App carries out by itself.
func confirmed(g *state.Grant) *state.Grant {
	if g == nil || len(g.Apps) == 0 {
		return nil
	}
	return g
}

func (e *Engine) watchKinds(ctx context.Context, objects []unit.Object) error {
	for _, o := range objects {
		resource, err := e.parts.Cluster.Resource(o.Ref)
		if err != nil {
			if isUnknownKind(err) {
				continue // its CRD comes with the same change
			}
			return err
		}
		e.parts.Eyes.Watch(ctx, o.Ref, resource)
	}
	return nil
}

// failedOr tells the errors that are the app's own from the one that ends the agent.
func (e *Engine) failedOr(name fleet.AppName, err error) error {
	if errors.Is(err, errOtherAgent) {
		return err
	}
	return e.applyFailed(name, err)
}

// save keeps an app's state, and makes it what everybody sees.
func (e *Engine) save(ctx context.Context, k state.App) error {
	if err := e.parts.Memory.SaveApp(ctx, k); err != nil {
		err = written(err)
		e.notKept(ctx, k.Name, err)
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.know(k)
	e.apps[k.Name].unsaved, e.apps[k.Name].unkept = time.Time{}, nil
	return nil
}

// know makes an app's state what everybody sees. Called with e.mu held.
func (e *Engine) know(k state.App) {
	a := e.apps[k.Name]
	a.noted(k.Items)
	for ref := range onCluster(a.kept) {
		delete(e.owner, ref)
	}
	for ref := range onCluster(k) {
		e.owner[ref] = k.Name
	}
	for _, ref := range a.claimed {
		e.owner[ref] = k.Name
	}
	if len(e.blocked) > 0 {
		for ref := range onCluster(a.kept) {
			if _, owned := e.owner[ref]; !owned {
				e.freed(ref)
			}
		}
	}
	a.kept = k
}

// written tells the error of a write that shows another agent at work.
func written(err error) error {
	if errors.Is(err, fleet.ErrConflict) {
		return fmt.Errorf("%w: %w", errOtherAgent, err)
	}
	return err
}

// claim makes sure that no object belongs to two apps, nor to the agent itself.
// What an app claimed with a render that came to nothing, it gives up again.
func (e *Engine) claim(name fleet.AppName, objects []unit.Object) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.taken(name, objects); err != nil {
		return err
	}
	for _, o := range objects {
		if isApp(o.Ref) {
			return fleet.WithHint(fleet.Invalid("%s: an app may not bring Apps", o.Ref), "put Apps into the root path")
		}
		if e.isOwn(o.Ref) {
			return fleet.WithHint(fleet.Invalid("%s: it is part of the agent's own installation, or in the agent's own namespace", o.Ref),
				"what guards a cluster is changed at the cluster: apply what capstan join prints there, and put other objects into another namespace")
		}
	}
	a := e.apps[name]
	a.stay(objects)
	e.disown(a)
	for _, o := range objects {
		a.claimed = append(a.claimed, versionless(o.Ref))
		e.owner[versionless(o.Ref)] = name
	}
	for ref := range onCluster(a.kept) {
		e.owner[ref] = name
	}
	return nil
}

// isOwn tells the objects that the agent, and with it every gate, depends on.
// Whoever may write to Git could otherwise change the rules that guard a cluster.
func (e *Engine) isOwn(r fleet.ObjectRef) bool {
	switch {
	case r.Namespace != "":
		return r.Namespace == e.cfg.Namespace
	case r.Group == "" && r.Kind == "Namespace":
		return r.Name == e.cfg.Namespace
	case r.Group == "apiextensions.k8s.io":
		return strings.HasSuffix(r.Name, "."+v1alpha1.GroupVersion.Group)
	case r.Group == "rbac.authorization.k8s.io":
		return r.Name == ownRoles || strings.HasPrefix(r.Name, ownRoles+"-")
	}
	return false
}

// ownRoles is how the names of the agent's ClusterRoles begin.
const ownRoles = "capstan-agent"

// disown gives up all that an app owns or claims, before it is said anew.
// Called with e.mu held.
func (e *Engine) disown(a *app) {
	for _, ref := range a.claimed {
		delete(e.owner, ref)
	}
	for ref := range onCluster(a.kept) {
		delete(e.owner, ref)
	}
	a.claimed = nil
}

// confirm fills in what the API server said of the objects it took.
func confirm(items []inventory.Item, applied []apply.Applied) []inventory.Item {
	out := slices.Clone(items)
	at := make(map[fleet.ObjectRef]int, len(out))
	for i, it := range out {
		at[versionless(it.Ref)] = i
	}
	for _, r := range applied {
		if i, ok := at[versionless(r.Object.Ref)]; ok {
			it := inventory.Item{Ref: r.Object.Ref, UID: r.UID, Hash: inventory.HashOf(r.Object), Fingerprint: r.Fingerprint, Foreign: r.Foreign}
			if it.UID == out[i].UID {
				it.Yield = out[i].Yield
			}
			out[i] = it
		}
	}
	return out
}

func itemsWithout(items, without []inventory.Item) []inventory.Item {
	if len(without) == 0 {
		return items
	}
	drop := make(map[fleet.ObjectRef]bool, len(without))
	for _, it := range without {
		drop[versionless(it.Ref)] = true
	}
	return slices.DeleteFunc(slices.Clone(items), func(it inventory.Item) bool { return drop[versionless(it.Ref)] })
}

func summarize(d inventory.Delta) fleet.Summary {
	n := len(d.Recreate)
	return fleet.Summary{Create: len(d.New), Update: len(d.Apply) - len(d.New) - n, Prune: len(d.Prune), Unchanged: len(d.Unchanged) + len(d.Keep), Recreate: n}
}
