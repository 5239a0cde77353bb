package watch

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// A workload's status says that pods are missing, not why. So while one is not
// well its pods are watched, and no longer: what runs as it should costs nothing.

const (
	// podsAfter is how long a workload may take before its pods are looked at:
	// a rollout without a hitch is over by then.
	podsAfter = 2 * time.Second
	// maxPodWatches bounds how many workloads are looked into at once. When a
	// whole cluster is unwell, a few reasons tell what all have in common.
	maxPodWatches = 32
)

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// unwell tells whether a look at a workload's pods could say more.
func unwell(h fleet.Health) bool { return h == fleet.Progressing || h == fleet.Degraded }

// podWatches are those of all kinds.
type podWatches struct {
	mu   sync.Mutex
	open map[fleet.ObjectRef]*podWatch
}

// podWatch is the pods of one workload.
type podWatch struct {
	selector string
	end      context.CancelFunc

	mu      sync.Mutex
	trouble map[string]string // by pod
	said    string
	tell    func()
}

// lookInto begins or ends the watch of a workload's pods.
func (w *Watcher) lookInto(ctx context.Context, ref fleet.ObjectRef, r *reduced, tell func()) {
	w.pods.mu.Lock()
	defer w.pods.mu.Unlock()
	p := w.pods.open[ref]
	want := r != nil && r.pods != "" && unwell(r.Health)
	switch {
	case p != nil && (!want || p.selector != r.pods):
		p.end()
		delete(w.pods.open, ref)
	case p != nil:
		return
	}
	if !want || len(w.pods.open) >= maxPodWatches || ctx.Err() != nil {
		return
	}
	ctx, end := context.WithCancel(ctx)
	p = &podWatch{selector: r.pods, end: end, tell: tell, trouble: map[string]string{}}
	w.pods.open[ref] = p
	w.group.Go(func() { p.run(ctx, w, ref.Namespace) })
}

// because is what the pods of a workload say, or "".
func (w *Watcher) because(ref fleet.ObjectRef) string {
	w.pods.mu.Lock()
	p := w.pods.open[ref]
	w.pods.mu.Unlock()
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

// Ask asks once what the pods of a workload, or a pod itself, say of what is
// wrong: of several the first by name. "" where nothing is, or where it can't be
// asked: a workload's own words are all there is then.
func (w *Watcher) Ask(ctx context.Context, ref fleet.ObjectRef) string {
	k := w.kind(ref)
	if k == nil {
		return ""
	}
	live, err := k.served.Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	if ref.Group == "" && ref.Kind == "Pod" {
		return health.PodTrouble(live)
	}
	selector := health.PodSelector(live)
	if selector == "" {
		return ""
	}
	list, err := w.api.Resource(pods).Namespace(ref.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: maxAsked})
	if err != nil {
		return ""
	}
	for i := range list.Items { // which the API server sorts by name
		if why := health.PodTrouble(&list.Items[i]); why != "" {
			return why
		}
	}
	return ""
}

// maxAsked bounds how many pods are read for one answer.
const maxAsked = 50

func (p *podWatch) run(ctx context.Context, w *Watcher, namespace string) {
	wait := time.NewTimer(podsAfter)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return
	case <-wait.C:
	}
	api := w.api.Resource(pods).Namespace(namespace)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = p.selector
			return api.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.LabelSelector = p.selector
			return api.Watch(ctx, o)
		},
	}
	// Where the agent may not see pods, the workload's own words are all there is.
	cache.NewReflectorWithOptions(lw, &unstructured.Unstructured{}, p, cache.ReflectorOptions{Name: "pods " + p.selector}).RunWithContext(ctx)
}

var _ cache.ReflectorStore = (*podWatch)(nil)

func (p *podWatch) Add(o any) error {
	if pod, ok := o.(*unstructured.Unstructured); ok {
		p.note(func() { p.set(pod) })
	}
	return nil
}

func (p *podWatch) Update(o any) error { return p.Add(o) }

func (p *podWatch) Delete(o any) error {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = d.Obj
	}
	if pod, ok := o.(*unstructured.Unstructured); ok {
		p.note(func() { delete(p.trouble, pod.GetName()) })
	}
	return nil
}

func (p *podWatch) Replace(list []any, _ string) error {
	p.note(func() {
		clear(p.trouble)
		for _, o := range list {
			if pod, ok := o.(*unstructured.Unstructured); ok {
				p.set(pod)
			}
		}
	})
	return nil
}

// Resync has nothing to do: everything is told when it is seen.
func (p *podWatch) Resync() error { return nil }

func (p *podWatch) set(pod *unstructured.Unstructured) {
	if why := health.PodTrouble(pod); why != "" {
		p.trouble[pod.GetName()] = why
	} else {
		delete(p.trouble, pod.GetName())
	}
}

// note changes what is known of the pods and tells if that says something else:
// of several pods the first by name speaks, so that the words stay the same.
func (p *podWatch) note(change func()) {
	p.mu.Lock()
	change()
	first := ""
	for name := range p.trouble {
		if first == "" || name < first {
			first = name
		}
	}
	said := p.trouble[first]
	moved := said != p.said
	p.said = said
	p.mu.Unlock()
	if moved {
		p.tell()
	}
}
