package apply

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Preview asks the API server, by dry-run, what a delta would change. maskKey
// hides secret values. An object whose namespace, CRD or role comes with the same
// delta can't be asked about yet: it is a create, unchecked.
func (c *Client) Preview(ctx context.Context, app fleet.AppName, d inventory.Delta, maskKey []byte) ([]fleet.Change, error) {
	var (
		mu      sync.Mutex
		changes []fleet.Change
		errs    []error
		g       errgroup.Group
	)
	g.SetLimit(parallel)
	comes := broughtBy(d.Apply)
	again := map[fleet.ObjectRef]bool{}
	for _, it := range d.Recreate {
		again[versionless(it.Ref)] = true
	}
	for _, o := range d.Apply {
		g.Go(func() error {
			ch, err := c.previewAs(ctx, again[versionless(o.Ref)], app, o, comes, maskKey)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, c.explainOf(o, err))
			} else {
				changes = append(changes, ch)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	for _, o := range d.Unchanged {
		changes = append(changes, fleet.Change{Object: o.Ref, Action: fleet.Unchanged})
	}
	for _, it := range d.Prune {
		changes = append(changes, fleet.Change{Object: it.Ref, Action: fleet.Prune})
	}
	for _, it := range d.Keep {
		changes = append(changes, fleet.Change{Object: it.Ref, Action: fleet.Keep, Note: "leaves the app, and stays on the cluster"})
	}
	slices.SortFunc(changes, func(a, b fleet.Change) int { return a.Object.Compare(b.Object) })
	return changes, joinSorted(errs)
}

// previewAs is preview for an object that may have to be recreated.
func (c *Client) previewAs(ctx context.Context, recreated bool, app fleet.AppName, o unit.Object, comes brings, maskKey []byte) (fleet.Change, error) {
	if !recreated {
		return c.preview(ctx, app, o, comes, maskKey)
	}
	live, err := c.Get(ctx, o.Ref)
	if errors.Is(err, fleet.ErrNotFound) {
		return c.preview(ctx, app, o, comes, maskKey) // it went meanwhile
	}
	if err != nil {
		return fleet.Change{}, err
	}
	wanted, err := sendable(app, o)
	if err != nil {
		return fleet.Change{}, err
	}
	ch := plan.Recreation(o, live.Object, wanted.Object, maskKey)
	ch.Note = lost(o.Ref)
	return ch, nil
}

func (c *Client) preview(ctx context.Context, app fleet.AppName, o unit.Object, comes brings, maskKey []byte) (fleet.Change, error) {
	unchecked := fleet.Change{Object: o.Ref, Action: fleet.Create, Unchecked: true}
	r, err := c.resource(o.Ref)
	if meta.IsNoMatchError(err) {
		return unchecked, nil // Scope has seen its CRD among the objects
	}
	if err != nil {
		return fleet.Change{}, err
	}
	live, err := r.Get(ctx, o.Ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && comes.namespace(o):
		return unchecked, nil
	case apierrors.IsNotFound(err):
		_, err := c.patch(ctx, app, o, true)
		if apierrors.IsNotFound(err) && comes.role(o) {
			return unchecked, nil
		}
		if err != nil {
			return fleet.Change{}, err
		}
		return plan.Diff(o, nil, nil, maskKey), nil
	case err != nil:
		return fleet.Change{}, err
	case o.Asks.IfAbsent:
		return fleet.Change{Object: o.Ref, Action: fleet.Unchanged}, nil
	}
	becomes, err := c.patch(ctx, app, o, true)
	if err != nil {
		return fleet.Change{}, err
	}
	ch := plan.Diff(o, live.Object, becomes.Object, maskKey)
	noteAdoption(&ch, o, live)
	return ch, nil
}

// Check has the API server check objects by dry-run, without asking what they
// would change.
func (c *Client) Check(ctx context.Context, app fleet.AppName, objects []unit.Object) error {
	var (
		mu   sync.Mutex
		errs []error
		g    errgroup.Group
	)
	g.SetLimit(parallel)
	comes := broughtBy(objects)
	for _, o := range objects {
		g.Go(func() error {
			if o.Asks.IfAbsent {
				if _, err := c.Get(ctx, o.Ref); err == nil {
					return nil
				}
			}
			_, err := c.patch(ctx, app, o, true)
			if err == nil || meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && (comes.namespace(o) || comes.role(o)) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, c.explainOf(o, err))
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return joinSorted(errs)
}
