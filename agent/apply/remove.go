package apply

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Remove deletes the items, each by its uid and with what it owns first. It does
// not wait: it gives those that are certainly gone, and those that are still there
// with what holds them. What others live in is not touched while any of those is.
func (c *Client) Remove(ctx context.Context, app fleet.AppName, items []inventory.Item) (gone []inventory.Item, still []Leaving, err error) {
	for _, stage := range pruneStages(items) {
		some, going, err := c.eachLeaving(stage, func(it inventory.Item) (*unstructured.Unstructured, error) { return c.remove(ctx, app, it) })
		gone, still = append(gone, some...), append(still, going...)
		if err != nil || len(still) > 0 {
			return gone, still, err
		}
	}
	return gone, nil, nil
}

// remove gives what is still there of an item, nil where it is gone.
func (c *Client) remove(ctx context.Context, app fleet.AppName, it inventory.Item) (*unstructured.Unstructured, error) {
	r, err := c.served(it.Ref)
	if meta.IsNoMatchError(err) {
		return nil, c.unserved(it.Ref)
	}
	if err != nil {
		return nil, err
	}
	uid, err := c.uidOf(ctx, r, app, it)
	if err != nil || uid == "" {
		return nil, err
	}
	it.UID = string(uid)
	return c.clear(ctx, it)
}

// each does something with every item, several at a time. It gives those of which
// done says so.
func (c *Client) each(items []inventory.Item, do func(inventory.Item) (done bool, err error)) ([]inventory.Item, error) {
	var (
		mu   sync.Mutex
		some []inventory.Item
		errs []error
		g    errgroup.Group
	)
	g.SetLimit(parallel)
	for _, it := range items {
		g.Go(func() error {
			done, err := do(it)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, c.explain(it.Ref, err))
			} else if done {
				some = append(some, it)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return some, joinSorted(errs)
}

// uidOf is the uid by which an item is deleted; "" where nothing of ours is there.
func (c *Client) uidOf(ctx context.Context, r dynamic.ResourceInterface, app fleet.AppName, it inventory.Item) (types.UID, error) {
	known := types.UID(it.UID)
	if known != "" && !it.Remade {
		return known, nil
	}
	uid, err := c.ours(ctx, r, app, it.Ref.Name)
	if err == nil && uid == "" {
		return known, nil
	}
	return uid, err
}

// ours is the uid of an object that was written down before an apply whose
// outcome was never recorded; "" where nothing of ours is there.
func (c *Client) ours(ctx context.Context, r dynamic.ResourceInterface, app fleet.AppName, name string) (types.UID, error) {
	live, err := r.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !appliedFor(live, app) || inventory.KeepsItself(live.GetAnnotations()) {
		return "", nil
	}
	return live.GetUID(), nil
}

// propagation is how an object is deleted: after what it owns, unless it is of a
// kind that owns nothing. Then there is nothing to wait for but finalizers.
func propagation(r fleet.ObjectRef) metav1.DeletionPropagation {
	switch {
	case r.Group == "rbac.authorization.k8s.io",
		r.Group == "" && slices.Contains([]string{"ConfigMap", "Secret", "ServiceAccount", "LimitRange", "ResourceQuota", "Namespace"}, r.Kind):
		return metav1.DeletePropagationBackground
	}
	return metav1.DeletePropagationForeground
}

// Release gives objects up: they stay as they are, and nothing on them says any
// more that they are the app's. It gives those that are certainly not ours now.
func (c *Client) Release(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, error) {
	return c.each(items, func(it inventory.Item) (bool, error) {
		// Who writes its status moves it in the same moment.
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return c.release(ctx, app, it) })
		return err == nil, err
	})
}

func (c *Client) release(ctx context.Context, app fleet.AppName, it inventory.Item) error {
	r, err := c.served(it.Ref)
	if meta.IsNoMatchError(err) {
		return c.unserved(it.Ref)
	}
	if err != nil {
		return err
	}
	live, err := r.Get(ctx, it.Ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if it.UID != "" && !it.Remade && string(live.GetUID()) != it.UID {
		return nil
	}
	patch := releasing(app, live)
	if len(patch) == 0 {
		return nil
	}
	body, err := json.Marshal(append(patch, op("replace", "/metadata/resourceVersion", live.GetResourceVersion())))
	if err != nil {
		return err
	}
	_, err = r.Patch(ctx, it.Ref.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: inventory.FieldManager})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// releasing takes our labels and our part of the managed fields off an object that
// is this app's; nothing where it is not.
func releasing(app fleet.AppName, live *unstructured.Unstructured) []map[string]any {
	labels := live.GetLabels()
	if labels[inventory.AppLabel] != app.Name || labels[inventory.NamespaceLabel] != app.Namespace {
		return nil
	}
	patch := []map[string]any{
		op("remove", "/metadata/labels/"+strings.ReplaceAll(inventory.AppLabel, "/", "~1"), nil),
		op("remove", "/metadata/labels/"+strings.ReplaceAll(inventory.NamespaceLabel, "/", "~1"), nil),
	}
	rest := slices.DeleteFunc(slices.Clone(live.GetManagedFields()), func(m metav1.ManagedFieldsEntry) bool { return m.Manager == inventory.FieldManager })
	if len(rest) == 0 {
		rest = []metav1.ManagedFieldsEntry{{}} // an empty list would change nothing
	}
	return append(patch, op("replace", "/metadata/managedFields", rest))
}

func op(what, path string, value any) map[string]any {
	o := map[string]any{"op": what, "path": path}
	if value != nil {
		o["value"] = value
	}
	return o
}
