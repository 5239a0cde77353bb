// Package apply sends objects to the API server: server-side apply under the
// agent's field manager, dry-runs for plans, and deletes that can only hit the
// object they mean.
//
// It builds on fluxcd/pkg/ssa for what that does well (order, normalisation,
// taking fields over from other managers) and sends the hot path itself: one
// PATCH for an object that changed, many at a time, and nothing for one that
// did not.
package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// parallel is how many requests one apply has in flight. More does not make an
// API server faster.
const parallel = 16

// Client applies and prunes.
//
// One that New made acts as the agent itself; As makes those that act for others.
type Client struct {
	identities *identities
	actor      actor
	api        sender
	failed     error // there is no api
	discovery  discovery.DiscoveryInterface
	kinds      *kinds
	key        []byte
}

// New makes a Client. fingerprintKey keys the fingerprints it returns.
func New(cfg *rest.Config, fingerprintKey []byte) (*Client, error) {
	ids, err := newIdentities(cfg)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{
		identities: ids,
		api:        ids.own,
		discovery:  disco,
		kinds:      &kinds{mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))},
		key:        fingerprintKey,
	}, nil
}

// Applied is what the API server made of an object.
type Applied struct {
	Object      unit.Object
	UID         string
	Fingerprint string
	Foreign     bool // it was there before, and was left as it is
}

// Apply sends the objects in stages: CRDs and namespaces, then what is
// cluster-wide, then the rest. Within a stage all are tried; a stage with an
// error ends the apply. It returns what was applied even when it fails. The
// error names each object that failed, and never holds a Secret's content.
func (c *Client) Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]Applied, error) {
	var done []Applied
	for _, stage := range stages(objects) {
		some, err := c.applyStage(ctx, app, stage)
		done = append(done, some...)
		if err != nil {
			return done, err
		}
		if err := c.established(ctx, stage); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (c *Client) applyStage(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]Applied, error) {
	var (
		mu   sync.Mutex
		done []Applied
		errs []error
		g    errgroup.Group
	)
	g.SetLimit(parallel)
	for _, o := range objects {
		g.Go(func() error {
			a, err := c.applyOne(ctx, app, o)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, c.explainOf(o, err))
				return nil
			}
			done = append(done, a)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return done, joinSorted(errs)
}

func (c *Client) applyOne(ctx context.Context, app fleet.AppName, o unit.Object) (Applied, error) {
	if o.Asks.IfAbsent {
		live, err := c.find(ctx, o.Ref)
		if err != nil {
			return Applied{}, err
		}
		if live != nil {
			return c.appliedAs(o, live, !appliedFor(live, app)), nil
		}
	}
	live, err := c.patch(ctx, app, o, false)
	if err == nil {
		live, err = c.adopt(ctx, app, o, live)
	}
	if err != nil {
		return Applied{}, err
	}
	return c.appliedAs(o, live, false), nil
}

func (c *Client) appliedAs(o unit.Object, live *unstructured.Unstructured, foreign bool) Applied {
	return Applied{Object: o, UID: string(live.GetUID()), Fingerprint: inventory.Fingerprint(c.key, live.Object), Foreign: foreign}
}

// find is the live object, nil if it is not there.
func (c *Client) find(ctx context.Context, ref fleet.ObjectRef) (*unstructured.Unstructured, error) {
	r, err := c.resource(ref)
	if err != nil {
		return nil, err
	}
	live, err := r.Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // it is not there
	}
	return live, err
}

// patch sends one server-side apply. Fields others hold are taken over: what
// Git says is what runs.
func (c *Client) patch(ctx context.Context, app fleet.AppName, o unit.Object, dryRun bool) (*unstructured.Unstructured, error) {
	r, err := c.resource(o.Ref)
	if err != nil {
		return nil, err
	}
	if dryRun {
		o.UID = ""
	}
	body, err := marked(app, o)
	if err != nil {
		return nil, err
	}
	force := !o.Asks.IfAbsent // what somebody else makes in the same moment is theirs
	opts := metav1.PatchOptions{FieldManager: inventory.FieldManager, Force: &force, FieldValidation: metav1.FieldValidationStrict}
	if dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	live, err := r.Patch(ctx, o.Ref.Name, types.ApplyPatchType, body, opts)
	if isNotServed(err) {
		c.kinds.forget() // it may come back as something else
	}
	if isReplaced(o, err) {
		return nil, ErrReplaced
	}
	return live, err
}

// marked adds the labels by which the agent's watches find its objects, after
// normalising what the API server would store otherwise than it was written.
func marked(app fleet.AppName, o unit.Object) ([]byte, error) {
	u, err := sendable(app, o)
	if err != nil {
		return nil, err
	}
	return u.MarshalJSON()
}

func sendable(app fleet.AppName, o unit.Object) (*unstructured.Unstructured, error) {
	u, err := decode(o)
	if err != nil {
		return nil, err
	}
	if err := inventory.Normalize(u.Object); err != nil {
		return nil, err
	}
	for _, pointer := range o.Yield {
		leaveOut(u.Object, pointer)
	}
	// What else is among the labels is the API server's to judge.
	labels, _, err := unstructured.NestedMap(u.Object, "metadata", "labels")
	if err != nil {
		return nil, errors.New("metadata.labels: wants an object")
	}
	if labels == nil {
		labels = make(map[string]any, 2)
	}
	if o.UID != "" {
		u.SetUID(types.UID(o.UID))
	}
	labels[inventory.AppLabel], labels[inventory.NamespaceLabel] = app.Name, app.Namespace
	if err := unstructured.SetNestedMap(u.Object, labels, "metadata", "labels"); err != nil {
		return nil, err
	}
	return u, nil
}

func decode(o unit.Object) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(o.JSON); err != nil {
		return nil, fmt.Errorf("not a Kubernetes object: %w", err)
	}
	return u, nil
}

// resource is the endpoint of an object. It fails with errUnknownKind where
// the cluster does not have the kind.
func (c *Client) resource(ref fleet.ObjectRef) (dynamic.ResourceInterface, error) {
	m, err := c.mapping(ref)
	if err != nil {
		return nil, err
	}
	return c.at(m, ref)
}

func (c *Client) at(m *meta.RESTMapping, ref fleet.ObjectRef) (dynamic.ResourceInterface, error) {
	if c.failed != nil {
		return nil, c.failed
	}
	r := c.api.Resource(m.Resource)
	if ref.Namespace == "" {
		return r, nil
	}
	return r.Namespace(ref.Namespace), nil
}

// served is resource, at whatever version the kind has now.
func (c *Client) served(ref fleet.ObjectRef) (dynamic.ResourceInterface, error) {
	m, err := c.servedMapping(ref)
	if err != nil {
		return nil, err
	}
	return c.at(m, ref)
}

// servedMapping is mapping, at whatever version the kind has now: the one that an
// object was applied at may be gone since, and the object is there still.
func (c *Client) servedMapping(ref fleet.ObjectRef) (*meta.RESTMapping, error) {
	m, err := c.mapping(ref)
	if !meta.IsNoMatchError(err) {
		return m, err
	}
	return c.kinds.mapper.RESTMapping(schema.GroupKind{Group: ref.Group, Kind: ref.Kind})
}

// stages cuts objects into what must be there before what. A binding is refused
// where its role is not there.
func stages(objects []unit.Object) [][]unit.Object {
	var cut [4][]unit.Object
	for _, o := range objects {
		switch {
		case isDefinition(o.Ref):
			cut[0] = append(cut[0], o)
		case isRole(o.Ref):
			cut[1] = append(cut[1], o)
		case o.Ref.Namespace == "":
			cut[2] = append(cut[2], o)
		default:
			cut[3] = append(cut[3], o)
		}
	}
	return slices.DeleteFunc(cut[:], func(s []unit.Object) bool { return len(s) == 0 })
}

func isDefinition(r fleet.ObjectRef) bool {
	return isNamespace(r) || isCRD(r)
}

func isNamespace(r fleet.ObjectRef) bool { return r.Group == "" && r.Kind == "Namespace" }

func isCRD(r fleet.ObjectRef) bool {
	return r.Group == "apiextensions.k8s.io" && r.Kind == "CustomResourceDefinition"
}

// Heal puts one object back to what was applied. Fields that people's kubectl
// holds are taken over first, so that what they added goes as well.
func (c *Client) Heal(ctx context.Context, app fleet.AppName, o unit.Object, live *unstructured.Unstructured) (Applied, error) {
	if live != nil {
		if err := c.takeOver(ctx, o, live, inventory.IsPerson); err != nil {
			return Applied{}, c.explainOf(o, err)
		}
	}
	now, err := c.patch(ctx, app, o, false)
	if err != nil {
		return Applied{}, c.explainOf(o, err)
	}
	a := c.appliedAs(o, now, false)
	if inventory.Added(now.GetManagedFields(), o.Yield) {
		a.Fingerprint = "" // of no state that is as it should be: it is looked at again
	}
	return a, nil
}

// Get reads one live object. The error is fleet.ErrNotFound where it is not there.
func (c *Client) Get(ctx context.Context, ref fleet.ObjectRef) (*unstructured.Unstructured, error) {
	r, err := c.resource(ref)
	if err != nil {
		return nil, c.explain(ref, err)
	}
	live, err := r.Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, c.explain(ref, err)
	}
	return live, nil
}

// Fingerprint hashes what is ours of a live object.
func (c *Client) Fingerprint(live *unstructured.Unstructured) string {
	return inventory.Fingerprint(c.key, live.Object)
}

func joinSorted(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int {
		return slices.Compare([]byte(a.Error()), []byte(b.Error()))
	})
	return granting(errs)
}
