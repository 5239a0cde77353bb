package watch

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

type objectKey struct{ namespace, name string }

// kindWatch is where one kind's reflector puts what it sees. It takes the place
// of an informer's cache, and reduces every object to a Sight before it is kept.
type kindWatch struct {
	watcher *Watcher
	ctx     context.Context // of the watch, and of those it leads to
	kind    fleet.ObjectRef
	served  dynamic.NamespaceableResourceInterface

	resource schema.GroupVersionResource

	again sync.Mutex // held by LookAgain

	mu     sync.RWMutex
	seen   map[objectKey]Sight
	moved  map[objectKey]bool // what the watch told during LookAgain; nil: none is at work
	blind  blindness
	once   sync.Once
	synced chan struct{}
}

var _ cache.TransformingStore = (*kindWatch)(nil)

// reduced is an object on its way from the reflector into seen.
type reduced struct {
	metav1.ObjectMeta // namespace and name alone, for the reflector's keys
	Sight
	pods string // a workload's selector
}

// Transformer lets the reflector reduce the objects of a first list one by one,
// so that they are never all in memory.
func (k *kindWatch) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			return o, nil
		}
		return k.reduce(u), nil
	}
}

func (k *kindWatch) reduce(u *unstructured.Unstructured) *reduced {
	state := k.watcher.judge(u)
	r := &reduced{
		ObjectMeta: metav1.ObjectMeta{Namespace: u.GetNamespace(), Name: u.GetName()},
		Sight: Sight{
			UID:         string(u.GetUID()),
			Fingerprint: inventory.Fingerprint(k.watcher.key, u.Object),
			Health:      state.Health,
			Message:     state.Message,
		},
		pods: health.PodSelector(u),
	}
	if state.Health == fleet.Progressing {
		r.Since = health.Since(u, state)
	}
	return r
}

// put keeps what was seen of an object, and tells whether that is news. The time
// is the object's own word only where nothing is known from before: from then on
// it is when the watch saw it become so, or be changed by us. Called with k.mu
// held.
func (k *kindWatch) put(into map[objectKey]Sight, key objectKey, r *reduced) bool {
	was, known := k.seen[key]
	if now := time.Now(); r.Health == fleet.Progressing {
		switch {
		case known && was.Health == r.Health && was.UID == r.Sight.UID && was.Fingerprint == r.Fingerprint:
			r.Since = was.Since
		case known || r.Since.IsZero() || r.Since.After(now):
			r.Since = now
		}
	}
	into[key] = r.Sight
	if k.moved != nil {
		k.moved[key] = true
	}
	return was != r.Sight
}

func (k *kindWatch) asReduced(o any) (*reduced, error) {
	switch o := o.(type) {
	case *reduced:
		return o, nil
	case *unstructured.Unstructured:
		return k.reduce(o), nil
	}
	return nil, fmt.Errorf("watch of %s gave a %T", k.kind.Kind, o)
}

// Add, Update and Delete take what the watch reports.
func (k *kindWatch) Add(o any) error {
	r, err := k.asReduced(o)
	if err != nil {
		return err
	}
	key := objectKey{r.Namespace, r.Name}
	k.mu.Lock()
	moved := k.put(k.seen, key, r)
	k.mu.Unlock()
	k.lookInto(key, r)
	if moved {
		k.tell(key, false)
	}
	return nil
}

func (k *kindWatch) Update(o any) error { return k.Add(o) }

func (k *kindWatch) Delete(o any) error {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = d.Obj
	}
	r, err := k.asReduced(o)
	if err != nil {
		return err
	}
	key := objectKey{r.Namespace, r.Name}
	k.mu.Lock()
	delete(k.seen, key)
	if k.moved != nil {
		k.moved[key] = true
	}
	k.mu.Unlock()
	k.lookInto(key, nil)
	k.tell(key, true)
	return nil
}

// Replace takes a whole list: what was seen before and is not in it is gone.
func (k *kindWatch) Replace(list []any, _ string) error {
	all := make([]*reduced, len(list))
	for i, o := range list {
		r, err := k.asReduced(o)
		if err != nil {
			return err
		}
		all[i] = r
		k.lookInto(objectKey{r.Namespace, r.Name}, r)
	}
	now := make(map[objectKey]Sight, len(list))
	k.mu.Lock()
	for _, r := range all {
		k.put(now, objectKey{r.Namespace, r.Name}, r)
	}
	before := k.seen
	k.seen = now
	k.mu.Unlock()
	k.once.Do(func() { close(k.synced) })
	for key, s := range now {
		if before[key] != s {
			k.tell(key, false)
		}
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			k.lookInto(key, nil)
			k.tell(key, true)
		}
	}
	return nil
}

// Resync has nothing to do: everything is told when it is seen.
func (k *kindWatch) Resync() error { return nil }

func (k *kindWatch) tell(key objectKey, gone bool) {
	k.watcher.notify(Event{Ref: k.ref(key), Gone: gone})
}

func (k *kindWatch) ref(key objectKey) fleet.ObjectRef {
	ref := k.kind
	ref.Namespace, ref.Name = key.namespace, key.name
	return ref
}

// lookInto has the pods of a workload looked at while it is not well; nil: it is gone.
func (k *kindWatch) lookInto(key objectKey, r *reduced) {
	k.watcher.lookInto(k.ctx, k.ref(key), r, func() { k.tell(key, false) })
}
