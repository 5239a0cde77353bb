package apply

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Prune deletes the items, what others live in last, each by its uid: an
// object that took the name meanwhile is left alone. It returns the items that
// are certainly not ours any more; the others stay owned, and the error says why.
func (c *Client) Prune(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, error) {
	var gone []inventory.Item
	for _, stage := range pruneStages(items) {
		some, err := c.pruneStage(ctx, app, stage)
		gone = append(gone, some...)
		if err != nil {
			return gone, err
		}
	}
	return gone, nil
}

func (c *Client) pruneStage(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, error) {
	return c.each(items, func(it inventory.Item) (bool, error) {
		err := c.delete(ctx, app, it)
		return err == nil, err
	})
}

func (c *Client) delete(ctx context.Context, app fleet.AppName, it inventory.Item) error {
	r, err := c.served(it.Ref)
	if meta.IsNoMatchError(err) {
		return c.unserved(it.Ref)
	}
	if err != nil {
		return err
	}
	uid, err := c.uidOf(ctx, r, app, it)
	if err != nil || uid == "" {
		return err
	}
	background := metav1.DeletePropagationBackground
	err = r.Delete(ctx, it.Ref.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: &background,
	})
	if apierrors.IsNotFound(err) || isOtherUID(err) {
		return nil
	}
	return err
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
