// Package secrets watches the Secrets that Apps name: each by its name, with a
// watch of its own, so that one that does not change costs nothing and a change
// counts at once. Nothing else is listed.
package secrets

import (
	"context"
	"fmt"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Watcher watches Secrets.
type Watcher struct{ core typedcorev1.SecretsGetter }

// New makes a Watcher. It connects to nothing.
func New(cfg *rest.Config) (*Watcher, error) {
	core, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Watcher{core: core}, nil
}

// Follow tells what a Secret holds, at once and whenever that changes, until ctx
// ends: one call at a time, which must not block. An error has a hint:
// fleet.ErrNotFound where there is no such Secret, fleet.ErrForbidden where it
// may not be read. What was told before a connection failed stays good.
func (w *Watcher) Follow(ctx context.Context, namespace, name string, tell func(data map[string][]byte, err error)) {
	one := &one{namespace: namespace, name: name, tell: tell}
	api := w.core.Secrets(namespace)
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			list, err := api.List(ctx, o)
			one.failed(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector = only
			events, err := api.Watch(ctx, o)
			if o.SendInitialEvents == nil || !apierrors.IsInvalid(err) { // else a server that can't, and is asked for a list next
				one.failed(err)
			}
			return events, err
		},
	}
	cache.NewReflectorWithOptions(lw, &corev1.Secret{}, one, cache.ReflectorOptions{Name: "secret"}).RunWithContext(ctx)
}

// Get tells what a Secret holds now. The error is fleet.ErrNotFound where there
// is none, and fleet.ErrForbidden where it may not be read.
func (w *Watcher) Get(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	s, err := w.core.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fleet.NotFound("there is no Secret %s/%s", namespace, name)
	case apierrors.IsForbidden(err):
		return nil, fleet.WithHint(fleet.Forbidden("Secret %s/%s may not be read by the agent", namespace, name), "give its ServiceAccount get on it; docs/rbac.md shows how")
	case err != nil:
		return nil, fmt.Errorf("secret %s/%s can't be read: %w", namespace, name, err)
	}
	return s.Data, nil
}

// one is a Secret that is followed.
type one struct {
	namespace, name string

	mu   sync.Mutex
	tell func(map[string][]byte, error)
	told bool
	data map[string][]byte
}

var _ cache.ReflectorStore = (*one)(nil)

// failed tells that the Secret can't be read, if nothing better is known.
func (o *one) failed(err error) {
	if err == nil {
		return
	}
	forbidden := apierrors.IsForbidden(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case forbidden:
		o.forget(fleet.WithHint(fleet.Forbidden("Secret %s/%s may not be read by the agent", o.namespace, o.name),
			"give its ServiceAccount list and watch on it; docs/rbac.md shows how"))
	case !o.told:
		o.tell(nil, fleet.WithHint(fleet.Unavailable("Secret %s/%s can't be read: %w", o.namespace, o.name, err), "it is tried again by itself"))
	}
}

func (o *one) missing() {
	o.forget(fleet.WithHint(fleet.NotFound("there is no Secret %s/%s", o.namespace, o.name),
		fmt.Sprintf("make it with: kubectl -n %s create secret generic %s --from-literal=username=... --from-literal=password=...", o.namespace, o.name)))
}

func (o *one) forget(err error) {
	o.told, o.data = true, nil
	o.tell(nil, err)
}

// Add takes what the Secret holds.
func (o *one) Add(obj any) error {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return fmt.Errorf("watch of a Secret gave a %T", obj)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told && o.data != nil && maps.EqualFunc(o.data, s.Data, func(a, b []byte) bool { return string(a) == string(b) }) {
		return nil // only its metadata moved
	}
	o.told, o.data = true, s.Data
	if o.data == nil {
		o.data = map[string][]byte{}
	}
	o.tell(o.data, nil)
	return nil
}

// Update is Add.
func (o *one) Update(obj any) error { return o.Add(obj) }

// Delete tells that the Secret is gone.
func (o *one) Delete(any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.missing()
	return nil
}

// Replace takes a whole list: of one Secret, or of none.
func (o *one) Replace(list []any, _ string) error {
	for _, obj := range list {
		return o.Add(obj)
	}
	return o.Delete(nil)
}

// Resync has nothing to do.
func (o *one) Resync() error { return nil }
