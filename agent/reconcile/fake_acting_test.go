package reconcile_test

import (
	"context"
	"path"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// acting is a cluster that somebody acts on.
type acting struct {
	*cluster
	who string // namespace/account; "agent": the agent itself
}

var _ reconcile.Cluster = acting{}

func (c *cluster) As(app fleet.AppName, account string) reconcile.Cluster {
	if account == "" {
		return acting{c, "agent"}
	}
	return acting{c, app.Namespace + "/" + account}
}

// does notes who acted, and refuses whoever may not.
func (a acting) does(verb string, refs ...fleet.ObjectRef) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range refs {
		a.acted[verb+" "+r.Kind+" "+r.Name] = a.who
		if a.powerless[a.who] == r.Kind {
			return &apply.ObjectError{Ref: r, Err: &apply.RefusedError{App: fleet.AppName{Namespace: path.Dir(a.who)}, Account: path.Base(a.who), Verb: verb, Resource: r.Kind, Namespace: r.Namespace}}
		}
	}
	return nil
}

// did tells who acted on an object last.
func (c *cluster) did(verb string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acted[verb]
}

func refsOf(objects []unit.Object) []fleet.ObjectRef {
	var out []fleet.ObjectRef
	for _, o := range objects {
		out = append(out, o.Ref)
	}
	return out
}

func (a acting) Check(ctx context.Context, app fleet.AppName, objects []unit.Object) error {
	if err := a.does("check", refsOf(objects)...); err != nil {
		return err
	}
	return a.cluster.Check(ctx, app, objects)
}

func (a acting) Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]apply.Applied, error) {
	if err := a.does("apply", refsOf(objects)...); err != nil {
		return nil, err
	}
	a.mu.Lock()
	tell := a.onSend
	a.mu.Unlock()
	for _, o := range objects {
		if tell != nil {
			tell(o.Ref)
		}
	}
	return a.cluster.Apply(ctx, app, objects)
}

func (a acting) Preview(ctx context.Context, app fleet.AppName, d inventory.Delta, key []byte) ([]fleet.Change, error) {
	if err := a.does("preview", refsOf(d.Apply)...); err != nil {
		return nil, err
	}
	return a.cluster.Preview(ctx, app, d, key)
}

func (a acting) Prune(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	for _, it := range items {
		if err := a.does("prune", it.Ref); err != nil {
			return nil, nil, err
		}
	}
	return a.cluster.Prune(ctx, app, items)
}

func (a acting) Remove(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	for _, it := range items {
		if err := a.does("prune", it.Ref); err != nil {
			return nil, nil, err
		}
	}
	return a.cluster.Remove(ctx, app, items)
}

func (a acting) StillThere(ctx context.Context, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	for _, it := range items {
		if err := a.does("ask", it.Ref); err != nil {
			return nil, nil, err
		}
	}
	return a.cluster.StillThere(ctx, items)
}

func (a acting) Release(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, error) {
	for _, it := range items {
		if err := a.does("release", it.Ref); err != nil {
			return nil, err
		}
	}
	return a.cluster.Release(ctx, app, items)
}

func (a acting) Get(ctx context.Context, ref fleet.ObjectRef) (*unstructured.Unstructured, error) {
	if err := a.does("get", ref); err != nil {
		return nil, err
	}
	return a.cluster.Get(ctx, ref)
}

func (a acting) Heal(ctx context.Context, app fleet.AppName, o unit.Object, live *unstructured.Unstructured) (apply.Applied, error) {
	if err := a.does("heal", o.Ref); err != nil {
		return apply.Applied{}, err
	}
	return a.cluster.Heal(ctx, app, o, live)
}

// wrapped puts something between the engine and the cluster, whoever acts.
type wrapped struct {
	reconcile.Clusters
	in func(reconcile.Cluster) reconcile.Cluster
}

func (w wrapped) As(app fleet.AppName, account string) reconcile.Cluster {
	return w.in(w.Clusters.As(app, account))
}
