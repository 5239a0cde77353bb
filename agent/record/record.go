// Package record tells the cluster's own people what the agent found and did:
// on the App objects and as Kubernetes Events.
package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// manager holds the status fields; the App's spec has another.
const manager = "capstan-status"

// rootManager holds the spec of the root's App object.
const rootManager = "capstan"

// Recorder writes App statuses and Events. It watches all Apps, so that a
// status that says the same already is not written again.
type Recorder struct {
	apps    dynamic.NamespaceableResourceInterface
	events  *events
	confirm string // annotation
	notify  func(fleet.AppName)
	log     *slog.Logger

	mu    sync.Mutex
	known map[fleet.AppName]sight
	seen  bool // all Apps, once
}

// sight is what is kept of an App object.
type sight struct {
	uid        types.UID
	generation int64
	status     string // JSON; of the newest version that is known of, seen or written
	version    uint64 // that it is of; 0: it does not tell
	confirmed  string
}

// New makes a Recorder. notify is called for every App that appears or that
// somebody confirmed something on; it must not block.
func New(cfg *rest.Config, confirmAnnotation string, notify func(fleet.AppName), log *slog.Logger) (*Recorder, error) {
	api, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	core, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	r := &Recorder{
		apps:    api.Resource(v1alpha1.GroupVersion.WithResource("apps")),
		confirm: confirmAnnotation,
		notify:  notify,
		log:     log,
		known:   map[fleet.AppName]sight{},
	}
	r.events = newEvents(core.Events(""), r.uid, log)
	return r, nil
}

// uid is an App object's that was seen; "": it was not.
func (r *Recorder) uid(app fleet.AppName) types.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[app].uid
}

// Run watches the Apps, and writes Events, until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return r.apps.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			return r.apps.Watch(ctx, o)
		},
	}
	var written sync.WaitGroup
	written.Go(func() { r.events.run(ctx) })
	cache.NewReflectorWithOptions(lw, &unstructured.Unstructured{}, r, cache.ReflectorOptions{Name: "apps"}).RunWithContext(ctx)
	written.Wait()
}

// Status writes an App's status, unless it says the same already.
// fleet.ErrNotFound: there is no such App object (yet).
func (r *Recorder) Status(ctx context.Context, app fleet.AppName, s v1alpha1.AppStatus) error {
	r.mu.Lock()
	seen, ok := r.known[app]
	r.mu.Unlock()
	if !ok {
		return fleet.NotFound("there is no App %s", app)
	}
	s.ObservedGeneration = seen.generation
	var was v1alpha1.AppStatus
	_ = json.Unmarshal([]byte(seen.status), &was) // a status nobody of ours wrote is simply replaced
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = seen.generation
		keepTransition(&s.Conditions[i], was.Conditions)
	}
	now, err := json.Marshal(s)
	if err != nil || string(now) == seen.status {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "App",
		"metadata": map[string]any{"name": app.Name, "namespace": app.Namespace, "uid": seen.uid},
		"status":   s,
	})
	if err != nil {
		return err
	}
	force := true
	written, err := r.apps.Namespace(app.Namespace).Patch(ctx, app.Name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: manager, Force: &force}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return fleet.NotFound("there is no App %s", app)
	}
	if err == nil {
		r.wrote(app, written)
	}
	return err
}

// wrote notes a status that was written. The watch tells of it later: a status that
// is told in between, and is as it was before this one, would be taken for written.
func (r *Recorder) wrote(app fleet.AppName, written *unstructured.Unstructured) {
	_, now := r.look(written)
	r.mu.Lock()
	defer r.mu.Unlock()
	if seen, ok := r.known[app]; ok && seen.uid == now.uid && now.version > seen.version {
		seen.status, seen.version = now.status, now.version
		r.known[app] = seen
	}
}

// newer is what is known after a version was seen, which may be older than what
// was written since.
func newer(before, seen sight) sight {
	if before.uid == seen.uid && before.version > seen.version && seen.version > 0 {
		seen.status, seen.version = before.status, before.version
	}
	return seen
}

// keepTransition lets a condition's time move only when its status does.
func keepTransition(c *metav1.Condition, before []metav1.Condition) {
	for _, b := range before {
		if b.Type == c.Type && b.Status == c.Status {
			c.LastTransitionTime = b.LastTransitionTime
		}
	}
}

// Root makes the App object in which the root path shows. It is not applied
// like others: nothing renders it, and it is there to be looked at.
func (r *Recorder) Root(ctx context.Context, app fleet.AppName, path string) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": v1alpha1.AppKind,
		"metadata": map[string]any{"name": app.Name, "namespace": app.Namespace},
		"spec":     map[string]any{"source": map[string]any{"path": path}},
	})
	if err != nil {
		return err
	}
	force := true
	_, err = r.apps.Namespace(app.Namespace).Patch(ctx, app.Name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: rootManager, Force: &force})
	return err
}

// Confirmed is the plan that a person confirmed by annotating the App, or "".
func (r *Recorder) Confirmed(app fleet.AppName) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[app].confirmed
}

var _ cache.ReflectorStore = (*Recorder)(nil)

// Add, Update, Delete, Replace and Resync take what the watch reports.
func (r *Recorder) Add(o any) error {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("watch of Apps gave a %T", o)
	}
	name, now := r.look(u)
	r.mu.Lock()
	before, known := r.known[name]
	r.known[name] = newer(before, now)
	r.mu.Unlock()
	if !known || before.confirmed != now.confirmed {
		r.notify(name)
	}
	if !known {
		r.events.wake()
	}
	return nil
}

// Update is Add.
func (r *Recorder) Update(o any) error { return r.Add(o) }

// Delete forgets an App.
func (r *Recorder) Delete(o any) error {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = d.Obj
	}
	if u, ok := o.(*unstructured.Unstructured); ok {
		r.mu.Lock()
		delete(r.known, fleet.AppName{Namespace: u.GetNamespace(), Name: u.GetName()})
		r.mu.Unlock()
	}
	return nil
}

// Replace takes a whole list.
func (r *Recorder) Replace(list []any, _ string) error {
	now := make(map[fleet.AppName]sight, len(list))
	for _, o := range list {
		if u, ok := o.(*unstructured.Unstructured); ok {
			name, s := r.look(u)
			now[name] = s
		}
	}
	r.mu.Lock()
	for name, s := range now {
		now[name] = newer(r.known[name], s)
	}
	r.known, r.seen = now, true
	names := slices.Collect(maps.Keys(now)) // it is everybody's from here on
	r.mu.Unlock()
	for _, name := range names {
		r.notify(name)
	}
	r.events.wake()
	return nil
}

// Settling says that not all Apps were seen yet since the start.
func (r *Recorder) Settling() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.seen {
		return errors.New("the Apps were not listed yet")
	}
	return nil
}

// Resync has nothing to do.
func (r *Recorder) Resync() error { return nil }

func (r *Recorder) look(u *unstructured.Unstructured) (fleet.AppName, sight) {
	s := sight{uid: u.GetUID(), generation: u.GetGeneration(), confirmed: u.GetAnnotations()[r.confirm]}
	s.version, _ = strconv.ParseUint(u.GetResourceVersion(), 10, 64) // 0 where it is no number
	if st, ok := u.Object["status"]; ok {
		var typed v1alpha1.AppStatus
		if b, err := json.Marshal(st); err == nil && json.Unmarshal(b, &typed) == nil {
			if b, err = json.Marshal(typed); err == nil {
				s.status = string(b)
			}
		}
	}
	return fleet.AppName{Namespace: u.GetNamespace(), Name: u.GetName()}, s
}
