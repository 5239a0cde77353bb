package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Prune deletes the items, what others live in last, each by its uid: an
// object that took the name meanwhile is left alone. It returns the items that
// are certainly not ours any more, and those that are going and not gone yet, with
// what holds them; the others stay owned, and the error says why.
func (c *Client) Prune(ctx context.Context, app fleet.AppName, items []inventory.Item) (gone []inventory.Item, still []Leaving, err error) {
	for _, stage := range pruneStages(items) {
		some, going, err := c.eachLeaving(stage, func(it inventory.Item) (*unstructured.Unstructured, error) { return c.delete(ctx, app, it) })
		gone, still = append(gone, some...), append(still, going...)
		if err != nil {
			return gone, still, err
		}
	}
	return gone, still, nil
}

// delete gives what is still there of an item, nil where it is gone. What goes at
// once costs no request more: the answer says so.
func (c *Client) delete(ctx context.Context, app fleet.AppName, it inventory.Item) (*unstructured.Unstructured, error) {
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
	background := metav1.DeletePropagationBackground
	goes, err := c.sendDelete(ctx, it.Ref, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: &background,
	})
	if apierrors.IsNotFound(err) || isOtherUID(err) {
		return nil, nil //nolint:nilnil // it is gone
	}
	if err != nil || !goes {
		return nil, err
	}
	return there(ctx, r, it.Ref.Name, uid)
}

// sendDelete deletes an object, and tells whether the API server says that it is
// going, which it may be over with: the answer to the DELETE of what goes at once is
// no object, or one that was not marked before.
func (c *Client) sendDelete(ctx context.Context, ref fleet.ObjectRef, opts metav1.DeleteOptions) (goes bool, err error) {
	m, err := c.servedMapping(ref)
	if err != nil {
		return false, err
	}
	path := []string{"apis", m.Resource.Group, m.Resource.Version}
	if m.Resource.Group == "" {
		path = []string{"api", m.Resource.Version}
	}
	if ref.Namespace != "" {
		path = append(path, "namespaces", ref.Namespace)
	}
	result := c.api.plain.Delete().AbsPath(append(path, m.Resource.Resource, ref.Name)...).Body(&opts).Do(ctx)
	if err := result.Error(); err != nil {
		return false, err
	}
	body, err := result.Raw()
	if err != nil {
		return false, err
	}
	var answer metav1.PartialObjectMetadata
	if err := json.Unmarshal(body, &answer); err != nil {
		return false, fmt.Errorf("the answer to its deletion can't be read: %w", err)
	}
	return answer.DeletionTimestamp != nil, nil
}

// there is the object that has a uid, nil where it is gone.
func there(ctx context.Context, r dynamic.ResourceInterface, name string, uid types.UID) (*unstructured.Unstructured, error) {
	live, err := r.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.GetUID() != uid {
		return nil, nil //nolint:nilnil // it is gone
	}
	return live, err
}

// StillThere tells which of the items, that were deleted, are gone, and what holds
// the others. It asks, and deletes nothing.
func (c *Client) StillThere(ctx context.Context, items []inventory.Item) (gone []inventory.Item, still []Leaving, err error) {
	return c.eachLeaving(items, func(it inventory.Item) (*unstructured.Unstructured, error) {
		r, err := c.served(it.Ref)
		if meta.IsNoMatchError(err) {
			return nil, c.unserved(it.Ref)
		}
		if err != nil {
			return nil, err
		}
		return there(ctx, r, it.Ref.Name, types.UID(it.UID))
	})
}

// eachLeaving does something with every item that gives what is still there of it,
// several at a time. It parts those that are gone from those that are not.
func (c *Client) eachLeaving(items []inventory.Item, do func(inventory.Item) (*unstructured.Unstructured, error)) (gone []inventory.Item, still []Leaving, err error) {
	var mu sync.Mutex
	gone, err = c.each(items, func(it inventory.Item) (bool, error) {
		live, err := do(it)
		if err == nil && live != nil {
			mu.Lock()
			defer mu.Unlock()
			still = append(still, leaving(it.Ref, live))
		}
		return live == nil, err
	})
	slices.SortFunc(still, func(a, b Leaving) int { return a.Ref.Compare(b.Ref) })
	return gone, still, err
}

// unserved says nil where a kind is certainly not served: its CRD is gone, and
// all its objects with it. While the API server can't tell, as during the outage
// of an aggregated one, its objects stay ours.
func (c *Client) unserved(ref fleet.ObjectRef) error {
	_, err := c.discovery.ServerResourcesForGroupVersion(schema.GroupVersion{Group: ref.Group, Version: ref.Version}.String())
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// isOtherUID tells the conflict of a uid precondition: somebody else's object
// has the name now.
func isOtherUID(err error) bool {
	return apierrors.IsConflict(err)
}

// appliedFor tells an object that this agent applied for this app from one
// that merely carries its labels.
func appliedFor(live *unstructured.Unstructured, app fleet.AppName) bool {
	l := live.GetLabels()
	if l[inventory.AppLabel] != app.Name || l[inventory.NamespaceLabel] != app.Namespace {
		return false
	}
	for _, m := range live.GetManagedFields() {
		if m.Manager == inventory.FieldManager && m.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

func pruneStages(items []inventory.Item) [][]inventory.Item {
	var cut [3][]inventory.Item
	for _, it := range items {
		switch {
		case isDefinition(it.Ref):
			cut[2] = append(cut[2], it)
		case it.Ref.Namespace == "":
			cut[1] = append(cut[1], it)
		default:
			cut[0] = append(cut[0], it)
		}
	}
	return cut[:]
}
