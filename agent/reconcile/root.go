package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/selection"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// rootContent is what the root path holds: Apps, and whatever else.
type rootContent struct {
	path     string
	reads    unit.ReadSet
	revision fleet.Revision
	repoURL  string
	apps     map[fleet.AppName]want
	doubtful map[fleet.AppName]error
	misnamed error // Apps that can't be shown under their names
	others   []unit.Object
}

// reconcileRoot reads the root path, chooses the Apps for this cluster, and
// keeps the App objects and whatever else the root brings as they should be.
func (e *Engine) reconcileRoot(ctx context.Context) error {
	v, _ := e.viewOf(e.root)
	if err := e.lookAtLeft(ctx, &v); err != nil {
		return err
	}
	readable, err := e.readRoot(ctx, v)
	switch {
	case errors.Is(err, errOtherAgent):
		return err
	case err == nil:
		e.rootLooked(v)
	}
	err = errors.Join(err, e.carryRoot(ctx, v, readable && err == nil))
	if errors.Is(err, errOtherAgent) {
		return err
	}
	e.acceptMove(e.root, v.from)
	e.sourceTrouble(e.root, v.from)
	if err = errors.Join(err, e.heal(ctx, e.root), e.catchUp(ctx, e.root)); err != nil {
		return err
	}
	e.succeeded(v)
	e.publish(e.root)
	return nil
}

// readRoot brings what is wanted up to date. While the root can't be read, what
// was wanted stays wanted.
func (e *Engine) readRoot(ctx context.Context, v view) (readable bool, err error) {
	if v.snapshot == nil {
		return false, e.adoptKept(v)
	}
	e.mu.Lock()
	content := e.content
	e.mu.Unlock()
	ring, err := e.ring(ctx, &v)
	if err != nil {
		return false, errors.Join(e.renderFailed(e.root, "", err), e.asBefore(v, content))
	}
	if content != nil {
		if same, err := e.holds(ctx, v, readsContent, content.reads); err != nil || same {
			e.choose(content, true)
			return true, err
		}
	}
	if v.last != nil && v.last.failed && !v.retry && !v.last.kills.due(time.Now()) {
		if same, err := e.holds(ctx, v, readsLast, v.last.reads); err != nil || same {
			return false, errors.Join(err, e.asBefore(v, content))
		}
	}
	rendered, err := e.render(ctx, unit.RenderRequest{Snapshot: *v.snapshot, Path: e.cfg.RootPath, Facts: v.facts, Release: unit.Release{Name: e.root.Name, Namespace: e.root.Namespace}, Keys: ring})
	if err != nil {
		return false, errors.Join(e.renderFailed(e.root, "", err), e.asBefore(v, content))
	}
	e.log.Debug("rendered", "app", e.root.String(), "objects", len(rendered.Objects))
	now, err := e.readContent(rendered, *v.snapshot)
	if err != nil {
		err = errors.Join(e.applyFailed(e.root, err), e.asBefore(v, content))
		e.rootLooked(v) // it was read, and is not to be had as it is
		return false, err
	}
	e.choose(now, true)
	return true, nil
}

// rootLooked notes at which commit the root was read, or found to be unreadable: what
// apps bring of that commit counts from then on.
func (e *Engine) rootLooked(v view) {
	if v.snapshot == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if at := v.snapshot.Revision(); at != e.world.rootAt {
		e.world.rootAt, e.world.moved = at, true // who was looked at in between has waited
	}
}

// behind tells that the root was not read yet at the commit that an app is read at: it
// may say otherwise of the App than what is wanted so far. Called with e.mu held.
func (e *Engine) behind(v view) bool {
	s := v.from.Snapshot
	return v.want != nil && v.from.Own && s != nil && e.world.rootAt != "" && s.Revision() != e.world.rootAt
}

// asBefore goes on with what the root held when last it could be read: labels
// may have moved meanwhile.
func (e *Engine) asBefore(v view, content *rootContent) error {
	if content == nil {
		return e.adoptKept(v)
	}
	e.choose(content, false)
	return nil
}

func (e *Engine) readContent(r unit.Rendered, s unit.Snapshot) (*rootContent, error) {
	checks := e.checks.Next()
	defer func() { e.checks = checks }()
	c := &rootContent{
		path: r.Path, reads: r.Reads, revision: s.Revision(), repoURL: s.RepoURL,
		apps: map[fleet.AppName]want{}, doubtful: map[fleet.AppName]error{},
	}
	for _, o := range r.Objects {
		if !isApp(o.Ref) {
			c.others = append(c.others, o)
			continue
		}
		name, w, err := e.readApp(o)
		if err == nil {
			w.checks, err = checksOf(checks, w.app.Spec)
		}
		if bad := e.misnamed(name); bad != nil {
			c.misnamed = errors.Join(c.misnamed, fmt.Errorf("%s: %w", r.Path, bad))
			continue
		}
		_, twice := c.apps[name]
		if c.doubtful[name] != nil {
			continue
		}
		if twice && err == nil {
			err = fleet.WithHint(fleet.Invalid("it is there twice"), "an App that names no namespace is in "+e.cfg.Namespace)
		}
		if err != nil {
			delete(c.apps, name)
			c.doubtful[name] = fmt.Errorf("app %s in %s: %w", name, r.Path, err)
			continue
		}
		c.apps[name] = w
	}
	var err error
	c.others, err = e.parts.Cluster.Scope(c.others, "default")
	return c, err
}

// misnamed says why an App can't go by its name: names become parts of the
// subjects on which is reported, and one is the root's own.
func (e *Engine) misnamed(name fleet.AppName) error {
	if name == e.root {
		return fleet.WithHint(fleet.Invalid("the name %q is the root's own", name), "give the App another name")
	}
	_, err := fleet.ParseAppName(name.String())
	return err
}

// readApp decodes an App of the root. Its namespace is the agent's where it
// names none.
func (e *Engine) readApp(o unit.Object) (fleet.AppName, want, error) {
	if o.Ref.Namespace == "" {
		o.Ref.Namespace = e.cfg.Namespace
	}
	name := fleet.AppName{Namespace: o.Ref.Namespace, Name: o.Ref.Name}
	a, err := v1alpha1.DecodeApp(o.JSON)
	if err != nil {
		return name, want{}, err
	}
	if _, err := selection.Matches(a.Spec.Clusters, nil); err != nil {
		return name, want{}, fmt.Errorf("spec.clusters: %w", err)
	}
	a.Namespace = o.Ref.Namespace
	var m map[string]any
	if err := json.Unmarshal(o.JSON, &m); err != nil {
		return name, want{}, err
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		meta["namespace"] = o.Ref.Namespace
	}
	delete(m, "status")
	if o.JSON, err = fleet.Canonical(m); err != nil {
		return name, want{}, err
	}
	spec, err := fleet.Canonical(a.Spec)
	return name, want{app: a, spec: spec, object: o}, err
}

// choose selects the Apps for this cluster. An App that can't be read is
// neither selected nor deselected: what was wanted of it before stays.
func (e *Engine) choose(c *rootContent, readable bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.world.wanted
	wanted := make(map[fleet.AppName]want, len(c.apps))
	for name, w := range c.apps {
		if isFor(w.app, e.world.labels) {
			wanted[name] = w
		}
	}
	doubtful := map[fleet.AppName]error{}
	for name, err := range c.doubtful {
		// Nothing is known of an App that never could be read, so it is shown
		// on every cluster: better once too often than nowhere.
		doubtful[name] = err
		if w, ok := before[name]; ok {
			wanted[name] = w
		}
	}
	// From here on an app that is not wanted may be removed at any moment, so
	// what the guard would stop is held before it can be seen.
	vanished, reason := e.vanished(e.apps[e.root].kept, c, e.world.labels)
	if reason == "" {
		vanished = nil
	}
	e.setHeld(vanished)
	if e.content != c || !mapsEqual(e.world.chosen, e.world.labels) {
		// Labels that came after the last choice may have been passed on before
		// it counted for them: nobody was asked to look for their sake yet.
		e.world.moved = true
	}
	if readable {
		e.apps[e.root].problem, e.apps[e.root].last = nil, nil
	}
	e.content, e.world.wanted, e.world.doubtful, e.world.rendered = c, wanted, doubtful, true
	e.world.chosen = e.world.labels
	e.world.dependents, e.world.cycles = dependents(wanted)
}

// adoptKept takes what was last applied for what is wanted, where the root
// could not be read since the start.
func (e *Engine) adoptKept(v view) error {
	if v.known {
		return nil
	}
	objects, err := v.kept.Applied()
	if err != nil {
		return err
	}
	wanted := map[fleet.AppName]want{}
	for _, o := range objects {
		if !isApp(o.Ref) {
			continue
		}
		name, w, err := e.readApp(o)
		if err == nil {
			w.checks, err = checksOf(e.checks, w.app.Spec)
		}
		if err == nil && e.misnamed(name) == nil {
			wanted[name] = w
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.world.adopted {
		e.world.adopted, e.world.moved = true, true
	}
	if len(wanted) > 0 {
		e.world.wanted, e.world.rendered, e.world.moved = wanted, true, true
		e.world.dependents, e.world.cycles = dependents(wanted)
	}
	return nil
}

// carryRoot applies the App objects, which need no approval because each App
// is gated itself, and takes the rest of the root through its gates.
func (e *Engine) carryRoot(ctx context.Context, v view, readable bool) error {
	e.mu.Lock()
	c, wanted, doubtful := e.content, e.world.wanted, e.world.doubtful
	e.mu.Unlock()
	if c == nil {
		e.passOn()
		return nil
	}
	released, err := e.holdVanished(ctx, &v, c)
	if err != nil {
		return e.failedOr(e.root, err)
	}
	for name, err := range doubtful {
		e.log.Warn("an App of the root can't be read", "app", name.String(), "error", err)
	}
	apps := make([]unit.Object, 0, len(wanted))
	for _, w := range wanted {
		apps = append(apps, w.object)
	}
	held, err := heldObjects(v.kept, e.heldNow())
	if err != nil {
		return err
	}
	apps = append(apps, held...)
	slices.SortFunc(apps, func(a, b unit.Object) int { return a.Ref.Compare(b.Ref) })
	// What else the root brings comes first: the apps may live in its namespaces.
	// It waits its turn while the root can't be read or a person has to confirm.
	var failed error
	if released && readable {
		failed = e.carryOthers(ctx, v, c, apps)
		if errors.Is(failed, errOtherAgent) {
			return failed
		}
	}
	e.mu.Lock()
	v.kept = e.apps[e.root].kept
	e.mu.Unlock()
	e.passOn()
	if err := e.carryApps(ctx, &v, apps, released); err != nil {
		return e.failedOr(e.root, errors.Join(failed, err))
	}
	e.strangers.Range(func(name, _ any) bool {
		e.tell.Add(name.(fleet.AppName))
		return true
	})
	return failed
}

// carryOthers takes what the root brings besides Apps through the gates.
func (e *Engine) carryOthers(ctx context.Context, v view, c *rootContent, apps []unit.Object) error {
	account := e.cfg.ApplyAs.Root
	if e.cfg.ApplyAs.Required && account == "" && len(c.others) > 0 {
		return e.othersRefused(c.others)
	}
	if err := e.claim(e.root, c.others); err != nil {
		return e.failedOr(e.root, err)
	}
	spec, err := rootSpec(c.path, account)
	if err != nil {
		return err
	}
	var demands []gate.Demand
	appItems := itemsOf(v.kept.Items, isApp)
	if len(c.others) > 0 || len(appItems) < len(v.kept.Items) {
		demands = e.demands(e.root, nil)
	}
	objects, hooked, err := hooks.Part(c.others, true)
	if err != nil {
		return e.failedOr(e.root, err)
	}
	return e.carry(ctx, v, change{
		spec: spec, effective: spec, path: c.path, reads: c.reads, objects: objects, hooks: hooked, revision: c.revision, repoURL: c.repoURL,
		account: account, prune: true, demands: demands, others: appItems, alongside: apps,
	})
}

func isApp(r fleet.ObjectRef) bool {
	return r.Group == v1alpha1.GroupVersion.Group && r.Kind == "App"
}

func itemsOf(items []inventory.Item, is func(fleet.ObjectRef) bool) []inventory.Item {
	var out []inventory.Item
	for _, it := range items {
		if is(it.Ref) {
			out = append(out, it)
		}
	}
	return out
}
