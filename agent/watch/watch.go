// Package watch keeps an eye on the objects the agent applied: one watch a
// kind, filtered to objects that carry our label. Of each object it keeps a
// fingerprint of what is ours, its health, and nothing else.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Sight is what is kept of one object.
type Sight struct {
	UID         string
	Fingerprint string
	Health      fleet.Health
	Message     string // why it is not healthy; of a workload what its pods say
	// Since is when it began to be Progressing, as it is wanted now; zero where it
	// is not.
	Since time.Time
}

// Event says that an object was seen, or is not there any more (or no longer
// carries our label: only a GET can tell which).
type Event struct {
	Ref  fleet.ObjectRef
	Gone bool
	// Blind: it is about the kind, which can't be watched any more, or can again.
	Blind bool
}

// Watcher watches kinds as they are asked for.
type Watcher struct {
	api    dynamic.Interface
	key    []byte
	judge  Judge
	notify func(Event)
	log    *slog.Logger

	mu    sync.RWMutex
	kinds map[schema.GroupKind]*kindWatch
	group sync.WaitGroup
	pods  podWatches
}

// Judge tells an object's health. It is called for every object that is seen, and
// must not block for long.
type Judge func(*unstructured.Unstructured) health.State

// New makes a Watcher. notify is called, one event at a time for each kind,
// whenever something was seen to move; it must not block for long.
func New(cfg *rest.Config, fingerprintKey []byte, judge Judge, notify func(Event), log *slog.Logger) (*Watcher, error) {
	api, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Watcher{api: api, key: fingerprintKey, judge: judge, notify: notify, log: log, kinds: map[schema.GroupKind]*kindWatch{}, pods: podWatches{open: map[fleet.ObjectRef]*podWatch{}}}, nil
}

// Watch begins to watch a kind until ctx ends, unless it is watched already.
func (w *Watcher) Watch(ctx context.Context, ref fleet.ObjectRef, resource schema.GroupVersionResource) {
	gk := schema.GroupKind{Group: ref.Group, Kind: ref.Kind}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.kinds[gk]; ok {
		return
	}
	k := &kindWatch{watcher: w, ctx: ctx, kind: ref, resource: resource, served: w.api.Resource(resource), synced: make(chan struct{}), blind: blindness{turned: make(chan struct{})}, seen: map[objectKey]Sight{}}
	w.kinds[gk] = k
	lw := k.listWatch(k.served)
	reflector := cache.NewReflectorWithOptions(lw, &unstructured.Unstructured{}, k, cache.ReflectorOptions{Name: resource.String()})
	w.group.Go(func() { reflector.RunWithContext(ctx) })
}

// Wait returns when every watch has ended.
func (w *Watcher) Wait() { w.group.Wait() }

// Synced waits until all that exists of a watched kind has been seen once. The
// error says why it can't be seen.
func (w *Watcher) Synced(ctx context.Context, ref fleet.ObjectRef) error {
	k := w.kind(ref)
	if k == nil {
		return fmt.Errorf("%s is not watched", ref.Kind)
	}
	for {
		k.mu.RLock()
		blind, turned := k.blind.err(), k.blind.turned
		k.mu.RUnlock()
		select {
		case <-k.synced:
			return nil
		default:
		}
		if blind != nil {
			return blind
		}
		select {
		case <-k.synced:
		case <-turned:
		case <-ctx.Done():
			return fmt.Errorf("the first list of %s did not come: %w", ref.Kind, ctx.Err())
		}
	}
}

// See gives what was last seen of an object.
func (w *Watcher) See(ref fleet.ObjectRef) (Sight, bool) {
	k := w.kind(ref)
	if k == nil {
		return Sight{}, false
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	key := objectKey{ref.Namespace, ref.Name}
	s, ok := k.seen[key]
	if why := w.because(k.ref(key)); why != "" && unwell(s.Health) {
		s.Message = why
	}
	return s, ok
}

// Blind says why a kind can't be watched, once that has lasted and an Event told of
// it; otherwise nil. Whoever asks before would hear of no end.
func (w *Watcher) Blind(ref fleet.ObjectRef) error {
	k := w.kind(ref)
	if k == nil {
		return nil
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if !k.blind.told {
		return nil
	}
	return k.blind.err()
}

func (w *Watcher) kind(ref fleet.ObjectRef) *kindWatch {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.kinds[schema.GroupKind{Group: ref.Group, Kind: ref.Kind}]
}

func (k *kindWatch) listWatch(r dynamic.ResourceInterface) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = inventory.AppLabel
			list, err := r.List(ctx, o)
			k.listed(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.LabelSelector = inventory.AppLabel
			events, err := r.Watch(ctx, o)
			if err == nil || o.SendInitialEvents == nil { // where a list as a watch is refused, a plain one follows
				k.watches(err)
			}
			return events, err
		},
	}
}
