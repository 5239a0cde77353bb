package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// cluster is an API server in memory, and the eyes on it. It holds what was
// applied, and refuses objects with data.refuse.
type cluster struct {
	mu      sync.Mutex
	objects map[fleet.ObjectRef]live
	uids    int
	sent    int
	history []string // what was sent
	seen    func(watch.Event)

	away      map[string]bool // names of objects that can't be applied just now
	watched   map[string]bool // kinds
	unwell    map[string]bool // names of objects that do not work yet
	since     map[string]time.Time
	again     []string        // kinds and apps that were looked at again
	held      map[string]bool // names of objects that finalizers hold
	asked     int             // how often it was asked whether one is gone
	failed    map[string]bool // names of objects that have failed
	pods      string          // what the pods of those say
	made      []string        // names of objects that were made, in order
	onPreview func()
	checked   []string        // names of objects, before others were sent
	gate      chan struct{}   // nothing but the root's is applied until it is closed
	onApply   func(total int) // called with how many objects were sent by then
	onTry     func()          // called before an app's objects are sent
	sentAt    map[string][]time.Time
	onSend    func(fleet.ObjectRef)
	blind     map[string]bool   // kinds that may not be watched
	acted     map[string]string // "apply ConfigMap web": who did it last
	powerless map[string]string // account: kind that it may not touch
}

type live struct {
	uid, content string
	app          fleet.AppName
	ending       bool // it is being deleted
	ours         bool // in every field, by its managedFields
}

func key(r fleet.ObjectRef) fleet.ObjectRef { r.Version = ""; return r }

func (c *cluster) Scope(objects []unit.Object, ns string) ([]unit.Object, error) {
	out := slices.Clone(objects)
	for i, o := range out {
		if o.Ref.Namespace == "" && !isClusterWide(o.Ref.Kind) {
			out[i].Ref.Namespace = ns
		}
	}
	return out, nil
}

// Resource knows every kind but Widget, which a CustomResourceDefinition brings.
func (c *cluster) Resource(ref fleet.ObjectRef) (schema.GroupVersionResource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ref.Kind == "Widget" && !c.has("CustomResourceDefinition") {
		return schema.GroupVersionResource{}, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: ref.Group, Kind: ref.Kind}}
	}
	return schema.GroupVersionResource{}, nil
}

func (c *cluster) has(kind string) bool {
	for ref := range c.objects {
		if ref.Kind == kind {
			return true
		}
	}
	return false
}

func refused(o unit.Object) error {
	if strings.Contains(string(o.JSON), `"refuse"`) {
		return &apply.ObjectError{Ref: o.Ref, Err: errors.New("the API server does not like it")}
	}
	return nil
}

func (c *cluster) Check(_ context.Context, _ fleet.AppName, objects []unit.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		c.checked = append(c.checked, o.Ref.Name)
		if err := refused(o); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) Apply(_ context.Context, app fleet.AppName, objects []unit.Object) (done []apply.Applied, err error) {
	if c.gate != nil && app.Name != reconcile.RootName {
		<-c.gate
	}
	c.mu.Lock()
	if on := c.onTry; on != nil {
		c.mu.Unlock()
		on()
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	for _, o := range objects {
		c.sent++
		c.history = append(c.history, string(o.JSON))
		if c.onApply != nil {
			c.onApply(c.sent)
		}
		c.sentAt[o.Ref.Name] = append(c.sentAt[o.Ref.Name], time.Now())
		rerr := refused(o)
		if c.frozen(o) {
			rerr = &apply.ObjectError{Ref: o.Ref, Err: errors.New("data.frozen: field is immutable")}
		}
		if now, ok := c.objects[key(o.Ref)]; o.UID != "" && (!ok || now.uid != o.UID) {
			rerr = &apply.ObjectError{Ref: o.Ref, Err: apply.ErrReplaced}
		}
		if c.away[o.Ref.Name] {
			rerr = &apply.ObjectError{Ref: o.Ref, Err: errors.New("the API server is busy")}
		}
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		now, ok := c.objects[key(o.Ref)]
		if o.Asks.IfAbsent && ok {
			done = append(done, apply.Applied{Object: o, UID: now.uid, Fingerprint: now.content, Foreign: now.app != app})
			continue
		}
		if !ok {
			c.uids++
			now.uid = fmt.Sprint("uid-", c.uids)
			c.made = append(c.made, o.Ref.Name)
		}
		now.content, now.app = string(o.JSON), app
		c.objects[key(o.Ref)] = now
		done = append(done, apply.Applied{Object: o, UID: now.uid, Fingerprint: now.content})
	}
	return done, err
}

// frozen tells a change of data.frozen, which can't be.
func (c *cluster) frozen(o unit.Object) bool {
	now, ok := c.objects[key(o.Ref)]
	return ok && !o.Asks.IfAbsent && frozenOf(now.content) != frozenOf(string(o.JSON))
}

func frozenOf(content string) string {
	var m struct{ Data struct{ Frozen string } }
	_ = json.Unmarshal([]byte(content), &m) // "" then
	return m.Data.Frozen
}

func (c *cluster) Refused(_ context.Context, _ fleet.AppName, objects []unit.Object, owned []inventory.Item) (out []inventory.Item, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		mine := slices.ContainsFunc(owned, func(it inventory.Item) bool { return it.Ref.Same(o.Ref) })
		now := c.objects[key(o.Ref)]
		if o.Asks.Recreate && mine && (now.ending || c.frozen(o)) {
			out = append(out, inventory.Item{Ref: o.Ref, UID: now.uid})
		}
	}
	return out, nil
}

func (c *cluster) Clear(_ context.Context, items []inventory.Item) (still []apply.Leaving, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		now, ok := c.objects[key(it.Ref)]
		switch {
		case !ok || now.uid != it.UID:
		case c.held[it.Ref.Name]:
			now.ending = true
			c.objects[key(it.Ref)] = now
			still = append(still, apply.Leaving{Ref: it.Ref, Finalizers: []string{"example.com/hold"}})
		default:
			delete(c.objects, key(it.Ref))
		}
	}
	return still, nil
}

func (c *cluster) Preview(_ context.Context, _ fleet.AppName, d inventory.Delta, _ []byte) ([]fleet.Change, error) {
	if c.onPreview != nil {
		c.onPreview()
	}
	var out []fleet.Change
	for _, o := range d.Apply {
		action := fleet.Create
		if slices.ContainsFunc(d.Recreate, func(it inventory.Item) bool { return it.Ref.Same(o.Ref) }) {
			action = fleet.Recreate
		}
		out = append(out, fleet.Change{Object: o.Ref, Action: action})
	}
	for _, it := range d.Keep {
		out = append(out, fleet.Change{Object: it.Ref, Action: fleet.Keep})
	}
	for _, it := range d.Prune {
		out = append(out, fleet.Change{Object: it.Ref, Action: fleet.Prune})
	}
	return out, nil
}

func (c *cluster) Prune(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	return c.Remove(ctx, app, items)
}

// StillThere deletes what was deleted before and is not held any more.
func (c *cluster) StillThere(_ context.Context, items []inventory.Item) (gone []inventory.Item, still []apply.Leaving, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		c.asked++
		now, ok := c.objects[key(it.Ref)]
		switch {
		case c.away[it.Ref.Name]:
			err = errors.Join(err, &apply.ObjectError{Ref: it.Ref, Err: errors.New("the API server is busy")})
		case ok && now.uid == it.UID && c.held[it.Ref.Name]:
			still = append(still, leaving(it.Ref, now.uid))
		default:
			if ok && now.uid == it.UID {
				delete(c.objects, key(it.Ref))
			}
			gone = append(gone, it)
		}
	}
	return gone, still, err
}

func leaving(ref fleet.ObjectRef, uid string) apply.Leaving {
	return apply.Leaving{Ref: ref, UID: uid, Finalizers: []string{"example.com/hold"}}
}

// isItem tells that an object is what an inventory means: by its uid, or where
// that is not known, by whose it says it is.
func isItem(now live, app fleet.AppName, it inventory.Item) bool {
	return now.uid == it.UID || now.app == app && (it.UID == "" || it.Remade)
}

func (c *cluster) Remove(_ context.Context, app fleet.AppName, items []inventory.Item) (gone []inventory.Item, still []apply.Leaving, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		now, ok := c.objects[key(it.Ref)]
		switch {
		case c.away[it.Ref.Name]:
			err = errors.Join(err, &apply.ObjectError{Ref: it.Ref, Err: errors.New("the API server is busy")})
			continue
		case ok && isItem(now, app, it) && c.held[it.Ref.Name]:
			now.ending = true
			c.objects[key(it.Ref)] = now
			still = append(still, leaving(it.Ref, now.uid))
			continue
		case ok && isItem(now, app, it):
			delete(c.objects, key(it.Ref))
		}
		gone = append(gone, it)
	}
	return gone, still, err
}

func (c *cluster) Release(_ context.Context, _ fleet.AppName, items []inventory.Item) ([]inventory.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		if now, ok := c.objects[key(it.Ref)]; ok && now.uid == it.UID {
			now.app = fleet.AppName{}
			c.objects[key(it.Ref)] = now
		}
	}
	return items, nil
}

// holder is the app that an object says it is of.
func (c *cluster) holder(ref fleet.ObjectRef) fleet.AppName {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[key(ref)].app
}

// touch has an object looked at.
func (c *cluster) touch(ref fleet.ObjectRef) { c.seen(watch.Event{Ref: ref}) }

func (c *cluster) Get(_ context.Context, ref fleet.ObjectRef) (*unstructured.Unstructured, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.objects[key(ref)]
	if !ok {
		return nil, fleet.NotFound("not there")
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(o.content)); err != nil {
		return nil, err
	}
	u.SetLabels(map[string]string{inventory.AppLabel: o.app.Name, inventory.NamespaceLabel: o.app.Namespace})
	u.SetUID(types.UID(o.uid))
	if o.ours {
		ownAll(u)
	}
	return u, nil
}

func (c *cluster) Heal(ctx context.Context, app fleet.AppName, o unit.Object, _ *unstructured.Unstructured) (apply.Applied, error) {
	done, err := c.Apply(ctx, app, []unit.Object{o})
	if err != nil {
		return apply.Applied{}, err
	}
	return done[0], nil
}

func (c *cluster) Fingerprint(*unstructured.Unstructured) string { return "looked at" }

func (c *cluster) Watch(_ context.Context, ref fleet.ObjectRef, _ schema.GroupVersionResource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched[ref.Kind] = true
}
func (c *cluster) Synced(_ context.Context, ref fleet.ObjectRef) error { return c.Blind(ref) }
func (c *cluster) Blind(ref fleet.ObjectRef) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.blind[ref.Kind] {
		return nil
	}
	return fleet.WithHint(apierrors.NewForbidden(schema.GroupResource{Resource: strings.ToLower(ref.Kind) + "s"}, "", errors.New("it may not")), "let it")
}

func (c *cluster) Ask(context.Context, fleet.ObjectRef) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods
}

func (c *cluster) LookAgain(_ context.Context, kind fleet.ObjectRef, app fleet.AppName) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again = append(c.again, kind.Kind+" of "+app.Name)
	return nil
}

func (c *cluster) See(ref fleet.ObjectRef) (watch.Sight, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.objects[key(ref)]
	ok = ok && !c.blind[ref.Kind]
	s := watch.Sight{UID: o.uid, Fingerprint: o.content, Health: fleet.Healthy}
	if c.unwell[ref.Name] {
		s.Health, s.Message, s.Since = fleet.Progressing, "starts", c.since[ref.Name]
	}
	if c.failed[ref.Name] {
		s.Health, s.Message = fleet.Degraded, "BackoffLimitExceeded"
	}
	return s, ok
}

// becomes has an object get well, or fall ill.
func (c *cluster) becomes(ref fleet.ObjectRef, well bool) {
	c.mu.Lock()
	c.unwell[ref.Name] = !well
	if !well {
		c.since[ref.Name] = time.Now()
	}
	c.mu.Unlock()
	c.seen(watch.Event{Ref: ref})
}

func (c *cluster) there(ref fleet.ObjectRef) bool { return c.content(ref) != "" }

// edit changes an object behind the agent's back; an empty content deletes it.
func (c *cluster) edit(ref fleet.ObjectRef, content string) {
	c.mu.Lock()
	o := c.objects[key(ref)]
	o.content = content
	c.objects[key(ref)] = o
	if content == "" {
		delete(c.objects, key(ref))
	}
	c.mu.Unlock()
	c.seen(watch.Event{Ref: ref, Gone: content == ""})
}

func (c *cluster) content(ref fleet.ObjectRef) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[key(ref)].content
}

func isClusterWide(kind string) bool {
	return kind == "Namespace" || kind == "CustomResourceDefinition" || strings.HasPrefix(kind, "Cluster")
}

func (c *cluster) uid(ref fleet.ObjectRef) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[key(ref)].uid
}

// hold has the deletion of an object wait.
func (c *cluster) hold(name string, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[name] = on
}
