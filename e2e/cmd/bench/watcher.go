package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var appsResource = schema.GroupVersionResource{Group: "capstan.dev", Version: "v1alpha1", Resource: "apps"}

// seen is what has been seen of the agent's work.
type seen struct {
	objects   map[string]bool
	released  map[string]bool   // objects that have the next release
	values    map[string]string // ConfigMap -> data.value
	replicas  map[string]int64  // Deployment -> spec.replicas
	readyApps map[string]bool
	ready     int
	rootReady bool
}

func (s *seen) applied() int { return len(s.objects) }

// watcher sees when the agent has done what is measured, by watches of its own. While
// many objects come it sees no more of them than their metadata, so that watching
// costs what is measured as little as it can: nothing watches the floor.
type watcher struct {
	mu    sync.Mutex
	seen  seen
	moved chan struct{}
}

func newWatcher(ctx context.Context, cfg *rest.Config, api dynamic.Interface) (*watcher, error) {
	w := &watcher{moved: make(chan struct{}, 1), seen: seen{
		objects: map[string]bool{}, released: map[string]bool{}, values: map[string]string{}, replicas: map[string]int64{}, readyApps: map[string]bool{},
	}}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	f := metadatainformer.NewFilteredSharedInformerFactory(meta, 0, namespace, nil)
	for kind, r := range resources {
		follow(w, f.ForResource(r).Informer(), func(m *metav1.PartialObjectMetadata) { w.object(kind, m) })
	}
	apps := dynamicinformer.NewFilteredDynamicSharedInformerFactory(api, 0, "capstan-system", nil)
	follow(w, apps.ForResource(appsResource).Informer(), w.app)
	f.Start(ctx.Done())
	apps.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	apps.WaitForCacheSync(ctx.Done())
	return w, nil
}

// contents has the watcher see what ConfigMaps and Deployments hold, from now on.
func (w *watcher) contents(ctx context.Context, api dynamic.Interface) {
	f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(api, 0, namespace, nil)
	follow(w, f.ForResource(resources["configmap"]).Informer(), func(u *unstructured.Unstructured) {
		w.seen.values[u.GetName()], _, _ = unstructured.NestedString(u.Object, "data", "value")
	})
	follow(w, f.ForResource(resources["deployment"]).Informer(), func(u *unstructured.Unstructured) {
		w.seen.replicas[u.GetName()], _, _ = unstructured.NestedInt64(u.Object, "spec", "replicas")
	})
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
}

func follow[T any](w *watcher, i cache.SharedIndexInformer, take func(*T)) {
	on := func(o any) {
		if u, ok := o.(*T); ok {
			w.mu.Lock()
			take(u)
			w.mu.Unlock()
			select {
			case w.moved <- struct{}{}:
			default:
			}
		}
	}
	// The error is about an informer that was stopped; this one was just made.
	_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: on, UpdateFunc: func(_, o any) { on(o) }})
}

func (w *watcher) object(kind string, m *metav1.PartialObjectMetadata) {
	if app := m.Labels["capstan.dev/app"]; app == "" || app == "root" {
		return
	}
	w.seen.objects[kind+"/"+m.Name] = true
	if m.Labels["release"] == nextRelease {
		w.seen.released[kind+"/"+m.Name] = true
	}
}

func (w *watcher) app(u *unstructured.Unstructured) {
	if !isReady(u) {
		return
	}
	if u.GetName() == "root" {
		w.seen.rootReady = true
		return
	}
	w.seen.readyApps[u.GetName()] = true
	w.seen.ready = len(w.seen.readyApps)
}

func isReady(u *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Ready" && m["status"] == "True" {
			return true
		}
	}
	return false
}

// until waits for what is seen to be as it should.
func (w *watcher) until(ctx context.Context, limit time.Duration, done func(*seen) bool) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		ok := done(&w.seen)
		applied, ready := w.seen.applied(), w.seen.ready
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("not done after %s: %d objects applied, %d Apps ready", limit, applied, ready)
		case <-w.moved:
		}
	}
}

// edit scales a Deployment as a person would, and tells when that was done.
func (w *watcher) edit(ctx context.Context, api dynamic.Interface, name string) (time.Time, error) {
	w.mu.Lock()
	w.seen.replicas[name] = -1 // what counts is what is seen from now on
	w.mu.Unlock()
	_, err := api.Resource(resources["deployment"]).Namespace(namespace).Patch(ctx, name, types.MergePatchType,
		[]byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	return time.Now(), err
}
