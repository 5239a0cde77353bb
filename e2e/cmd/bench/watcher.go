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

// watcher sees when the agent has done what is measured, by watches of its own.
type watcher struct {
	mu    sync.Mutex
	seen  seen
	moved chan struct{}
}

func newWatcher(ctx context.Context, api dynamic.Interface) *watcher {
	w := &watcher{moved: make(chan struct{}, 1), seen: seen{
		objects: map[string]bool{}, released: map[string]bool{}, values: map[string]string{}, replicas: map[string]int64{}, readyApps: map[string]bool{},
	}}
	f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(api, 0, namespace, nil)
	for kind, r := range resources {
		w.follow(f.ForResource(r).Informer(), func(u *unstructured.Unstructured) { w.object(kind, u) })
	}
	apps := dynamicinformer.NewFilteredDynamicSharedInformerFactory(api, 0, "capstan-system", nil)
	w.follow(apps.ForResource(appsResource).Informer(), w.app)
	f.Start(ctx.Done())
	apps.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	apps.WaitForCacheSync(ctx.Done())
	return w
}

func (w *watcher) follow(i cache.SharedIndexInformer, take func(*unstructured.Unstructured)) {
	on := func(o any) {
		if u, ok := o.(*unstructured.Unstructured); ok {
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

func (w *watcher) object(kind string, u *unstructured.Unstructured) {
	if u.GetLabels()["capstan.dev/app"] == "" || u.GetLabels()["capstan.dev/app"] == "root" {
		return
	}
	w.seen.objects[kind+"/"+u.GetName()] = true
	if u.GetLabels()["release"] == nextRelease {
		w.seen.released[kind+"/"+u.GetName()] = true
	}
	switch kind {
	case "configmap":
		w.seen.values[u.GetName()], _, _ = unstructured.NestedString(u.Object, "data", "value")
	case "deployment":
		w.seen.replicas[u.GetName()], _, _ = unstructured.NestedInt64(u.Object, "spec", "replicas")
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
