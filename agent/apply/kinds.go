package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/restmapper"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// mapping finds a kind among those the cluster has. One that is not there is asked
// for again, though not at once: its CRD may have come since, from another app or
// by somebody else's hand.
func (c *Client) mapping(ref fleet.ObjectRef) (*meta.RESTMapping, error) {
	kind := schema.GroupKind{Group: ref.Group, Kind: ref.Kind}
	m, err := c.kinds.mapper.RESTMapping(kind, ref.Version)
	if meta.IsNoMatchError(err) && c.kinds.forget() {
		m, err = c.kinds.mapper.RESTMapping(kind, ref.Version)
	}
	return m, err
}

// kindsFor is how long the kinds that were read are believed to be all there are.
// An app that waits for one is tried again later than that.
const kindsFor = 500 * time.Millisecond

// kinds is what is known of what the API server serves.
type kinds struct {
	mapper *restmapper.DeferredDiscoveryRESTMapper

	mu   sync.Mutex
	read time.Time // when they were last forgotten, to be read anew
}

// forget has the cluster's kinds read again, unless they were just now.
func (k *kinds) forget() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.read) < kindsFor {
		return false
	}
	k.mapper.Reset()
	k.read = time.Now()
	return true
}

// Resource is where a kind's objects are listed and watched.
func (c *Client) Resource(ref fleet.ObjectRef) (schema.GroupVersionResource, error) {
	m, err := c.mapping(ref)
	if err != nil {
		return schema.GroupVersionResource{}, c.explain(ref, err)
	}
	return m.Resource, nil
}

// Scope gives every namespaced object that names no namespace the default one,
// and takes it from cluster-wide ones, so that a reference means one object. A
// kind that a CRD among the objects brings is read from that CRD.
func (c *Client) Scope(objects []unit.Object, namespace string) ([]unit.Object, error) {
	brought, err := broughtAlong(objects)
	if err != nil {
		return nil, err
	}
	out := make([]unit.Object, len(objects))
	var errs []error
	for i, o := range objects {
		namespaced, ok := brought[schema.GroupKind{Group: o.Ref.Group, Kind: o.Ref.Kind}]
		if !ok {
			m, err := c.mapping(o.Ref)
			if err != nil {
				errs = append(errs, c.explain(o.Ref, err))
				continue
			}
			namespaced = m.Scope.Name() == meta.RESTScopeNameNamespace
		}
		if out[i], err = scoped(o, namespaced, namespace); err != nil {
			errs = append(errs, c.explain(o.Ref, err))
		}
	}
	return out, joinSorted(errs)
}

func scoped(o unit.Object, namespaced bool, namespace string) (unit.Object, error) {
	switch {
	case namespaced && o.Ref.Namespace == "":
	case !namespaced && o.Ref.Namespace != "":
		namespace = ""
	default:
		return o, nil
	}
	u, err := decode(o)
	if err != nil {
		return o, err
	}
	u.SetNamespace(namespace)
	b, err := fleet.Canonical(u.Object)
	if err != nil {
		return o, err
	}
	o.Ref.Namespace, o.JSON = namespace, b
	return o, nil
}

// broughtAlong lists the kinds the objects' own CRDs define, and whether each
// is namespaced.
func broughtAlong(objects []unit.Object) (map[schema.GroupKind]bool, error) {
	out := map[schema.GroupKind]bool{}
	for _, o := range objects {
		if !isCRD(o.Ref) {
			continue
		}
		var crd struct {
			Spec struct {
				Group string `json:"group"`
				Scope string `json:"scope"`
				Names struct {
					Kind string `json:"kind"`
				} `json:"names"`
			} `json:"spec"`
		}
		if err := json.Unmarshal(o.JSON, &crd); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		}
		out[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}] = crd.Spec.Scope == "Namespaced"
	}
	return out, nil
}

// establishTimeout bounds the wait for a CRD's endpoint to be served.
const establishTimeout = 30 * time.Second

// established waits until the CRDs of a stage serve their kinds, and the API server
// says so where it lists what it serves: that comes somewhat later.
func (c *Client) established(ctx context.Context, stage []unit.Object) error {
	crds := map[fleet.ObjectRef]*unstructured.Unstructured{}
	for _, o := range stage {
		if !isCRD(o.Ref) {
			continue
		}
		r, err := c.resource(o.Ref)
		if err != nil {
			return c.explain(o.Ref, err)
		}
		err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
			live, err := r.Get(ctx, o.Ref.Name, metav1.GetOptions{})
			crds[o.Ref] = live
			return err == nil && isEstablished(live), err
		})
		if err != nil {
			return c.explain(o.Ref, fmt.Errorf("the API server does not serve it yet: %w", err))
		}
	}
	if len(crds) > 0 {
		c.kinds.mapper.Reset()
	}
	for ref, crd := range crds {
		if err := c.listed(ctx, crd); err != nil {
			return c.explain(ref, fmt.Errorf("the API server does not list it yet: %w", err))
		}
	}
	return nil
}

// listed waits until a CRD's kind is among those of the cluster, at each version
// that it serves.
func (c *Client) listed(ctx context.Context, crd *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, e := range versions {
		v, _ := e.(map[string]any)
		if v["served"] != true {
			continue
		}
		name, _ := v["name"].(string)
		err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, establishTimeout, true, func(context.Context) (bool, error) {
			_, err := c.kinds.mapper.RESTMapping(schema.GroupKind{Group: group, Kind: kind}, name)
			if meta.IsNoMatchError(err) {
				c.kinds.mapper.Reset()
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func isEstablished(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, e := range conditions {
		if m, ok := e.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
			return true
		}
	}
	return false
}
