package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// heal looks at the objects that were seen moving and puts back what is not as
// it was applied. It needs neither Git nor the hub, but to take what somebody else made
// under a name, before Git was read since the start.
func (e *Engine) heal(ctx context.Context, name fleet.AppName) error {
	e.mu.Lock()
	a := e.apps[name]
	if a == nil || len(a.look) == 0 || !e.knowsSuspended(name) {
		e.mu.Unlock()
		e.healTrouble(ctx, name, nil)
		return nil
	}
	look := a.look
	a.look = map[fleet.ObjectRef]bool{}
	kept := a.kept
	e.mu.Unlock()
	defer e.patientAgain(name)

	var errs []error
	for _, it := range clusterWideFirst(kept.Items) {
		if !look[versionless(it.Ref)] || it.UID == "" || it.Ending || e.leaves(name, it.Ref) {
			continue
		}
		if err := e.healItem(ctx, name, it); err != nil {
			errs = append(errs, err)
			e.mu.Lock()
			if a := e.apps[name]; a != nil {
				a.look[versionless(it.Ref)] = true // look again with the next try
			}
			e.mu.Unlock()
		}
	}
	err := errors.Join(errs...)
	e.healTrouble(ctx, name, err)
	return err
}

// eyeTimeout bounds the wait for a kind's first list.
const eyeTimeout = 30 * time.Second

func (e *Engine) healItem(ctx context.Context, name fleet.AppName, it inventory.Item) error {
	Beat(ctx)
	resource, err := e.parts.Cluster.Resource(it.Ref)
	if err != nil {
		return err // where its CRD is gone it may come back, and nothing else would tell
	}
	e.parts.Eyes.Watch(ctx, it.Ref, resource)
	wait, cancel := context.WithTimeout(ctx, eyeTimeout)
	defer cancel()
	if err := e.parts.Eyes.Synced(wait, it.Ref); err != nil && !apierrors.IsForbidden(err) { // what may not be watched is looked at itself
		return fmt.Errorf("can't be watched: %w", apply.Explain(it.Ref, err))
	}
	if s, ok := e.parts.Eyes.See(it.Ref); ok && s.UID == it.UID && s.Fingerprint == it.Fingerprint {
		e.noDrift(name, it.Ref)
		return nil
	}
	if it.Foreign {
		return nil
	}
	live, err := e.actingOn(name, it.Ref).Get(ctx, it.Ref)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return err
	}
	if live != nil && string(live.GetUID()) == it.UID && e.parts.Cluster.Fingerprint(live) == it.Fingerprint {
		e.noDrift(name, it.Ref)
		return nil
	}
	return e.putBack(ctx, name, it, live)
}

func (e *Engine) putBack(ctx context.Context, name fleet.AppName, it inventory.Item, live *unstructured.Unstructured) error {
	object, heals, ok, err := e.applied(name, it.Ref)
	if err != nil {
		return err
	}
	if !ok { // sent before a crash, and not noted as applied: Git will say what it is to be
		e.mu.Lock()
		e.apps[name].look[versionless(it.Ref)] = true
		e.mu.Unlock()
		return nil
	}
	if (live == nil || string(live.GetUID()) != it.UID) && e.awaitsGit(name, it.Ref) {
		return nil
	}
	if live != nil && string(live.GetUID()) != it.UID && e.toBePruned(name, it.Ref) {
		return nil // made by somebody under a name that is given up
	}
	heals = e.taking(name, it, live, heals)
	found := drifted(object, live, e.parts.Now().UTC())
	if live != nil {
		e.leave(name, &found, &it, live.GetManagedFields())
		object.Yield = it.Yield
	}
	if live != nil && live.GetDeletionTimestamp() != nil {
		return nil // it is on its way out; its end is another event
	}
	if live != nil && (object.Asks.IfAbsent || len(found.Fields) == 0 && isApp(it.Ref)) {
		it.UID, it.Fingerprint = string(live.GetUID()), e.parts.Cluster.Fingerprint(live)
		return e.refingerprint(ctx, name, it) // it may be as it is, or it is an annotation, to confirm
	}
	if live != nil && len(found.Fields) == 0 && found.Manager == "" {
		if e.awaitsNote(name, it.Ref) {
			return nil
		}
		return e.holdAgain(ctx, name, it, object, live)
	}
	return e.undo(ctx, name, it, undoing{object: object, live: live, found: found, policy: heals})
}

// holdAgain has fields ours again whose values are as Git has them: another
// manager may hold one instead of us, and what it did next would not be seen. No
// value changes.
func (e *Engine) holdAgain(ctx context.Context, name fleet.AppName, it inventory.Item, object unit.Object, live *unstructured.Unstructured) error {
	if e.suspended(name) {
		e.noDrift(name, it.Ref)
		return nil // whose it is, is settled when the app goes on
	}
	done, err := e.healAs(ctx, name, it, object, live, false)
	if err != nil {
		return err
	}
	it.UID, it.Fingerprint, it.Hash = done.UID, done.Fingerprint, inventory.HashOf(object)
	return e.refingerprint(ctx, name, it)
}

// undoing is a drift, and what to put back.
type undoing struct {
	object unit.Object
	live   *unstructured.Unstructured
	found  fleet.DriftSummary
	policy healPolicy
}

// undo notes a drift, and puts the object back if that is for us and its time.
func (e *Engine) undo(ctx context.Context, name fleet.AppName, it inventory.Item, u undoing) error {
	found := u.found
	e.mu.Lock()
	a := e.apps[name]
	if was, known := a.drift[versionless(it.Ref)]; known {
		found.Since = was.Since
	} else {
		e.parts.Meter.Drifted(name)
	}
	a.drift[versionless(it.Ref)] = found
	h := a.heals[versionless(it.Ref)]
	if e.parts.Now().Sub(h.last) > calm {
		h = healing{}
	}
	pause := max(h.next().Sub(e.parts.Now()), u.policy.stands(found, e.parts.Now()))
	e.mu.Unlock()
	if !u.policy.heal {
		return nil
	}
	if pause > 0 {
		e.mu.Lock()
		a.look[versionless(it.Ref)] = true
		e.mu.Unlock()
		e.work.AddAfter(name, pause)
		return nil
	}
	done, err := e.healAs(ctx, name, it, u.object, u.live, true)
	if err != nil {
		return err
	}
	e.mu.Lock()
	h = h.undone(found, e.parts.Now())
	a.heals[versionless(it.Ref)] = h
	e.mu.Unlock()
	e.noDrift(name, it.Ref)
	e.parts.Meter.Healed(name)
	e.parts.Record.Event(name, false, "Healed", describe(found))
	it.UID, it.Fingerprint, it.Hash = done.UID, done.Fingerprint, inventory.HashOf(u.object)
	return e.refingerprint(ctx, name, it)
}

// leave takes out of a drift what is for others to say, and notes it on the item.
func (e *Engine) leave(name fleet.AppName, found *fleet.DriftSummary, it *inventory.Item, managers []metav1.ManagedFieldsEntry) {
	rules := e.ignoring(name)
	var left, rest []string
	for _, path := range found.Fields {
		if inventory.Yields(rules, it.Ref, inventory.Difference{Path: path, Manager: changedBy(managers, []string{path})}) {
			left = append(left, path)
		} else {
			rest = append(rest, path)
		}
	}
	for _, p := range inventory.Held(rules, it.Ref, managers) {
		if !slices.Contains(left, p) {
			left = append(left, p)
		}
	}
	it.Yield = left
	if len(left) > 0 {
		others, _ := inventory.Apart(managers, left, inventory.IsPerson)
		found.Fields, found.Manager = rest, changedBy(others, rest)
	}
}

// ignoring are the app's own rules on what is left to others.
func (e *Engine) ignoring(name fleet.AppName) []inventory.Rule {
	e.mu.Lock()
	defer e.mu.Unlock()
	spec := keptSpec(e.apps[name].kept)
	if w, ok := e.world.wanted[name]; ok {
		spec = &w.app.Spec
	}
	if spec == nil || name == e.root {
		return nil
	}
	var rules []inventory.Rule
	for _, d := range spec.IgnoreDifferences {
		rules = append(rules, inventory.Rule{Group: d.Group, Kind: d.Kind, Namespace: d.Namespace, Name: d.Name, Pointers: d.JSONPointers, Managers: d.Managers})
	}
	return rules
}

// applied finds an object among those last applied, and how it is healed.
func (e *Engine) applied(name fleet.AppName, ref fleet.ObjectRef) (object unit.Object, policy healPolicy, ok bool, err error) {
	e.mu.Lock()
	kept := e.apps[name].kept
	policy = e.healPolicy(name, kept)
	e.mu.Unlock()
	objects, err := kept.Applied()
	if err != nil {
		return object, policy, false, err
	}
	i := slices.IndexFunc(objects, func(o unit.Object) bool { return o.Ref.Same(ref) })
	if i < 0 {
		return object, policy, false, nil
	}
	object = objects[i]
	if object.Asks, err = inventory.AsksOf(object, false); err != nil {
		return object, policy, false, err
	}
	policy.heal = policy.heal && !object.Asks.Unhealed
	return object, policy, true, nil
}

// refingerprint notes what an object of ours looks like now.
func (e *Engine) refingerprint(ctx context.Context, name fleet.AppName, it inventory.Item) error {
	e.noDrift(name, it.Ref)
	e.mu.Lock()
	kept := e.apps[name].kept
	e.mu.Unlock()
	kept.Items = slices.Clone(kept.Items)
	for i := range kept.Items {
		if kept.Items[i].Ref.Same(it.Ref) {
			kept.Items[i].UID, kept.Items[i].Fingerprint, kept.Items[i].Hash, kept.Items[i].Yield, kept.Items[i].Remade = it.UID, it.Fingerprint, it.Hash, it.Yield, false
		}
	}
	return e.save(ctx, kept)
}

func (e *Engine) noDrift(name fleet.AppName, ref fleet.ObjectRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[name]; a != nil {
		delete(a.drift, versionless(ref))
	}
}

// drifted says in which fields a live object is not as applied, and who was
// last to write it. Only paths are told, never values.
func drifted(applied unit.Object, live *unstructured.Unstructured, now time.Time) fleet.DriftSummary {
	d := fleet.DriftSummary{Object: applied.Ref, Since: now}
	if live == nil {
		d.Fields = []string{""}
		return d
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(applied.JSON); err != nil {
		return d
	}
	if err := inventory.Normalize(u.Object); err != nil {
		return d
	}
	d.Fields = inventory.Lost(u.Object, live.Object)
	for _, label := range []string{inventory.AppLabel, inventory.NamespaceLabel} {
		if live.GetLabels()[label] == "" {
			d.Fields = append(d.Fields, "/metadata/labels/"+strings.ReplaceAll(label, "/", "~1"))
		}
	}
	d.Manager = changedBy(live.GetManagedFields(), d.Fields)
	d.Since = changedAt(live.GetManagedFields(), d.Manager, d.Fields, now)
	return d
}

func describe(d fleet.DriftSummary) string {
	what := strings.Join(d.Fields, ", ")
	switch {
	case len(d.Fields) == 1 && d.Fields[0] == "":
		return fmt.Sprintf("%s had been deleted, and was created anew", d.Object)
	case what == "":
		what = "fields that are not in Git"
	}
	if d.Manager == "" {
		return fmt.Sprintf("%s: put back %s", d.Object, what)
	}
	return fmt.Sprintf("%s: put back %s, changed by %s", d.Object, what, d.Manager)
}
