package apply

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Refused gives, of the objects that may be recreated, those that must be: the
// API server refuses their change as immutable, or they are on their way out
// already. Each has the uid of what is there. Only what the app owns is among
// them; what else is wrong with an object is told when it is applied.
func (c *Client) Refused(ctx context.Context, app fleet.AppName, objects []unit.Object, owned []inventory.Item) ([]inventory.Item, error) {
	uids := make(map[fleet.ObjectRef]string, len(owned))
	for _, it := range owned {
		uids[versionless(it.Ref)] = it.UID
	}
	var (
		mu   sync.Mutex
		out  []inventory.Item
		errs []error
		g    errgroup.Group
	)
	g.SetLimit(parallel)
	for _, o := range objects {
		uid, known := uids[versionless(o.Ref)]
		if !o.Asks.Recreate || !known {
			continue
		}
		g.Go(func() error {
			live, err := c.refused(ctx, app, o, uid)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, c.explainOf(o, err))
			} else if live != nil {
				out = append(out, inventory.Item{Ref: o.Ref, UID: string(live.GetUID())})
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	slices.SortFunc(out, func(a, b inventory.Item) int { return a.Ref.Compare(b.Ref) })
	return out, joinSorted(errs)
}

// refused gives what is in the way of an object, nil where nothing of ours is.
func (c *Client) refused(ctx context.Context, app fleet.AppName, o unit.Object, uid string) (*unstructured.Unstructured, error) {
	live, err := c.find(ctx, o.Ref)
	switch {
	case meta.IsNoMatchError(err):
		return nil, nil //nolint:nilnil // nothing is in the way
	case err != nil || live == nil:
		return nil, err
	case uid != "" && string(live.GetUID()) != uid, uid == "" && !appliedFor(live, app):
		return nil, nil //nolint:nilnil // it is somebody else's
	case live.GetDeletionTimestamp() != nil:
		return live, nil
	}
	if _, err := c.patch(ctx, app, o, true); err != nil && isImmutable(err) {
		return live, nil
	}
	return nil, nil //nolint:nilnil // it can be changed, or Apply says what is wrong
}

// Clear deletes what is in the way of objects that are created anew, each by its
// uid and with what it owns first. It does not wait: it returns what is still
// there, and what holds it.
func (c *Client) Clear(ctx context.Context, items []inventory.Item) ([]Leaving, error) {
	_, still, err := c.eachLeaving(items, func(it inventory.Item) (*unstructured.Unstructured, error) { return c.clear(ctx, it) })
	return still, err
}

func (c *Client) clear(ctx context.Context, it inventory.Item) (*unstructured.Unstructured, error) {
	r, err := c.served(it.Ref)
	if err != nil {
		return nil, err
	}
	uid, how := types.UID(it.UID), propagation(it.Ref)
	err = r.Delete(ctx, it.Ref.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &how})
	if apierrors.IsNotFound(err) || isOtherUID(err) {
		return nil, nil //nolint:nilnil // it is gone
	}
	if err != nil {
		return nil, err
	}
	return there(ctx, r, it.Ref.Name, uid)
}

func versionless(r fleet.ObjectRef) fleet.ObjectRef {
	r.Version = ""
	return r
}

// lost says what goes when an object is created anew.
func lost(r fleet.ObjectRef) string {
	what := "its status, and what controllers made for it"
	switch {
	case r.Group == "apps" || r.Group == "batch":
		what = "its pods, which stop until it is there again, and its status"
	case isCRD(r):
		what = "every object of its kind"
	case isNamespace(r):
		what = "everything in it"
	case r.Group == "" && r.Kind == "PersistentVolumeClaim":
		what = "the data of its volume, unless the volume is retained"
	case r.Group == "" && r.Kind == "Service":
		what = "its cluster IP and load balancer: connections break"
	case r.Group == "" && r.Kind == "Pod":
		what = "what it runs"
	}
	return "is deleted and created anew, because the API server refuses the change as immutable; lost with it: " + what
}
