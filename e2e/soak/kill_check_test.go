package soak_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var (
	appResource = schema.GroupVersionResource{Group: "capstan.dev", Version: "v1alpha1", Resource: "apps"}
	leases      = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

const (
	confirmAnnotation = "capstan.dev/confirm-prune"
	rootName          = "root"
)

// live is what there is on the cluster.
type live map[fleet.ObjectRef]*unstructured.Unstructured

// isConverged compares what there is with what is wanted, object by object: on
// the cluster and in the agent's inventories. On the way it confirms what waits
// for a person.
func (k *kills) isConverged(ctx context.Context) error {
	there, err := k.live(ctx)
	if err != nil {
		return err
	}
	store, err := state.New(k.cfg, agentNamespace)
	if err != nil {
		return err
	}
	kept, err := store.LoadApps(ctx)
	if err != nil {
		return err
	}
	wanted := k.world.wanted()
	err = errors.Join(k.clusterIs(there, wanted), k.appsAre(ctx, kept, wanted), k.inventoriesAre(kept, there, wanted))
	k.noteUnmet(err)
	return err
}

// noteUnmet tells in the story what is waited for, if that is something else.
func (k *kills) noteUnmet(err error) {
	if err == nil {
		return
	}
	const most = 3
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines)
	unmet := strings.Join(lines[:min(most, len(lines))], "; ")
	if more := len(lines) - most; more > 0 {
		unmet += fmt.Sprintf("; and %d more", more)
	}
	if unmet != k.unmet {
		k.unmet = unmet
		k.note("not yet: %s", unmet)
	}
}

// live lists all objects of the kinds that revisions have, and that are in
// namespaces where nobody else puts any.
func (k *kills) live(ctx context.Context) (live, error) {
	out := live{}
	for resource, kind := range k.world.resources() {
		list, err := k.api.Resource(resource).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue // the CRD is not there
		}
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			u := &list.Items[i]
			ref := fleet.ObjectRef{Group: resource.Group, Kind: kind, Namespace: u.GetNamespace(), Name: u.GetName()}
			if k.isOurGround(ref) {
				out[ref] = u
			}
		}
	}
	return out, nil
}

// isOurGround leaves out what a cluster has of its own.
func (k *kills) isOurGround(ref fleet.ObjectRef) bool {
	switch {
	case ref.Name == "kube-root-ca.crt", strings.HasPrefix(ref.Namespace, "kube-"), ref.Namespace == "default", ref.Namespace == agentNamespace:
		return false
	case ref.Kind == "Namespace":
		return strings.HasPrefix(ref.Name, "own-")
	case ref.Kind == "CustomResourceDefinition":
		return strings.HasSuffix(ref.Name, ".example.com")
	}
	return true
}

// clusterIs says where the cluster is not as wanted.
func (k *kills) clusterIs(there live, wanted map[string]map[fleet.ObjectRef]object) (err error) {
	all := map[fleet.ObjectRef]string{k.world.root.ref: "root"}
	texts := map[fleet.ObjectRef]string{k.world.root.ref: k.world.root.text}
	for app, objects := range wanted {
		for ref, o := range objects {
			all[ref], texts[ref] = app, o.text
		}
	}
	for ref, app := range all {
		u := there[ref]
		switch {
		case u == nil:
			err = errors.Join(err, fmt.Errorf("%s of %s is not there", ref, app))
		case textOf(u) != texts[ref]:
			err = errors.Join(err, fmt.Errorf("%s of %s has %q, wanted is %q", ref, app, textOf(u), texts[ref]))
		case u.GetLabels()[inventory.AppLabel] != app || u.GetLabels()[inventory.NamespaceLabel] != agentNamespace:
			err = errors.Join(err, fmt.Errorf("%s of %s carries the labels %v", ref, app, u.GetLabels()))
		case u.GetDeletionTimestamp() != nil:
			err = errors.Join(err, fmt.Errorf("%s of %s is being deleted", ref, app))
		}
	}
	for ref, u := range there {
		if _, is := all[ref]; is || k.bystanders[ref] != "" {
			continue
		}
		err = errors.Join(err, fmt.Errorf("%s is there, and nobody wants it; labels %v", ref, u.GetLabels()))
	}
	return err
}

// appsAre says where the App objects are not as wanted, or do not say what is kept.
func (k *kills) appsAre(ctx context.Context, kept []state.App, wanted map[string]map[fleet.ObjectRef]object) error {
	list, err := k.api.Resource(appResource).Namespace(agentNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	digests := map[string]fleet.Digest{}
	for _, a := range kept {
		digests[a.Name.Name] = a.Digest
	}
	seen := map[string]bool{}
	for i := range list.Items {
		app := &list.Items[i]
		seen[app.GetName()] = true
		if cerr := k.confirm(ctx, app); cerr != nil {
			err = errors.Join(err, cerr)
		}
		status, _, _ := unstructured.NestedMap(app.Object, "status")
		if _, is := wanted[app.GetName()]; !is && app.GetName() != rootName {
			err = errors.Join(err, fmt.Errorf("app %s is there, and is not wanted: %v", app.GetName(), status["message"]))
		} else if status["sync"] != string(fleet.Synced) || status["health"] != string(fleet.Healthy) {
			err = errors.Join(err, fmt.Errorf("app %s is %v and %v: %v", app.GetName(), status["sync"], status["health"], status["message"]))
		} else if status["digest"] != string(digests[app.GetName()]) {
			err = errors.Join(err, fmt.Errorf("app %s says that %v is applied, and the agent has noted %s", app.GetName(), status["digest"], digests[app.GetName()]))
		}
	}
	for name := range wanted {
		if !seen[name] {
			err = errors.Join(err, fmt.Errorf("there is no App %s", name))
		}
	}
	return err
}

// inventoriesAre says where the agent's own books differ from what there is.
func (k *kills) inventoriesAre(kept []state.App, there live, wanted map[string]map[fleet.ObjectRef]object) (err error) {
	seen := map[string]bool{}
	for _, a := range kept {
		name := a.Name.Name
		seen[name] = true
		owned, made := map[fleet.ObjectRef]string{}, map[fleet.ObjectRef]string{}
		for _, it := range a.Items {
			if it.Ref.Kind != "App" {
				owned[versionless(it.Ref)] = it.UID
			}
		}
		for _, it := range a.Made {
			made[versionless(it.Ref)] = it.UID
		}
		objects, is := wanted[name]
		if name == rootName {
			objects, is = map[fleet.ObjectRef]object{k.world.root.ref: k.world.root}, true
		}
		if !is {
			err = errors.Join(err, fmt.Errorf("the state of app %s is there, and nobody wants it", name))
		}
		if a.Halfway || a.Pending != nil {
			err = errors.Join(err, fmt.Errorf("the state of app %s is that of a change: halfway %t, pending %t", name, a.Halfway, a.Pending != nil))
		}
		for ref, o := range objects {
			of := owned
			if o.hook {
				of = made
			}
			if u := there[ref]; u != nil && of[ref] != string(u.GetUID()) {
				err = errors.Join(err, fmt.Errorf("the inventory of %s has %s with uid %q, there is %s", name, ref, of[ref], u.GetUID()))
			}
			delete(of, ref)
		}
		maps.Copy(owned, made)
		for ref, uid := range owned {
			err = errors.Join(err, fmt.Errorf("the inventory of %s has %s with uid %q, which it does not own", name, ref, uid))
		}
	}
	for name := range wanted {
		if !seen[name] {
			err = errors.Join(err, fmt.Errorf("there is no state of app %s", name))
		}
	}
	return err
}

// bystander is an object of somebody else.
func bystander(ref fleet.ObjectRef, labels map[string]string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": ref.Kind}}
	u.SetName(ref.Name)
	u.SetNamespace(ref.Namespace)
	u.SetLabels(labels)
	switch ref.Kind {
	case "ConfigMap":
		u.Object["data"] = map[string]any{"text": "mine"}
	case "Secret":
		u.Object["stringData"] = map[string]any{"text": "mine"}
	case "Service":
		u.Object["spec"] = map[string]any{"clusterIP": "None", "ports": []any{map[string]any{"port": int64(80)}}}
	}
	return u
}

func identity(u *unstructured.Unstructured) string {
	return string(u.GetUID()) + " " + u.GetResourceVersion()
}

// placeBystanders puts objects beside those of the agent: of the same kinds, with
// names like theirs, with its labels, and one that looks as if it had applied it.
func (k *kills) placeBystanders(t *testing.T) {
	t.Helper()
	for _, ns := range []string{playground, "bystander"} {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns}}}
		_, err := k.api.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Create(t.Context(), u, metav1.CreateOptions{})
		must(t, err)
	}
	copied := map[string]string{inventory.AppLabel: appNames[0], inventory.NamespaceLabel: agentNamespace}
	for resource, ref := range map[string]fleet.ObjectRef{
		"configmaps": {Kind: "ConfigMap", Name: "bystander"}, "secrets": {Kind: "Secret", Name: "bystander"}, "services": {Kind: "Service", Name: "bystander"},
	} {
		for suffix, labels := range map[string]map[string]string{"": nil, "-copy": copied, "-of-nobody": {inventory.AppLabel: "nobody", inventory.NamespaceLabel: agentNamespace}} {
			for _, ns := range []string{playground, "bystander"} {
				at := ref
				at.Namespace, at.Name = ns, ref.Name+suffix
				made, err := k.api.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace(ns).
					Create(t.Context(), bystander(at, labels), metav1.CreateOptions{FieldManager: "kubectl-create"})
				must(t, err)
				k.bystanders[at] = identity(made)
			}
		}
	}
	at := fleet.ObjectRef{Kind: "ConfigMap", Namespace: playground, Name: "bystander-as-applied"}
	body, err := bystander(at, copied).MarshalJSON()
	must(t, err)
	made, err := k.api.Resource(configMaps).Namespace(playground).Patch(t.Context(), at.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: inventory.FieldManager})
	must(t, err)
	k.bystanders[at] = identity(made)
}

// watch notes objects that go back to a text that they had before: no revision
// does that, so an agent that does has the cluster run what nobody wants any more.
func (k *kills) watch(t *testing.T) {
	t.Helper()
	informers := dynamicinformer.NewFilteredDynamicSharedInformerFactory(k.api, 0, playground, nil)
	for resource, kind := range k.world.resources() {
		if kind == "Namespace" || kind == "CustomResourceDefinition" {
			continue
		}
		look := func(o any) {
			if u, ok := o.(*unstructured.Unstructured); ok {
				k.look(kind, u)
			}
		}
		_, err := informers.ForResource(resource).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: look, UpdateFunc: func(_, now any) { look(now) },
		})
		must(t, err)
	}
	informers.Start(t.Context().Done())
	t.Cleanup(informers.Shutdown)
}

func (k *kills) look(kind string, u *unstructured.Unstructured) {
	var n int
	if _, err := fmt.Sscanf(textOf(u), "text %d", &n); err != nil {
		return // somebody else's
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if was := k.latest[u.GetUID()]; n < was {
		k.back = append(k.back, fmt.Sprintf("%s %s/%s went from text %d back to text %d", kind, u.GetNamespace(), u.GetName(), was, n))
	}
	k.latest[u.GetUID()] = n
}

// checkWatched: nothing went back.
func (k *kills) checkWatched(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	back := k.back
	k.mu.Unlock()
	if len(back) > 0 {
		k.fail(t, errors.New(strings.Join(back, "\n")))
	}
}

// checkBystanders: nobody touched what is somebody else's.
func (k *kills) checkBystanders(t *testing.T) {
	t.Helper()
	there, err := k.live(t.Context())
	must(t, err)
	for _, ref := range slices.SortedFunc(maps.Keys(k.bystanders), fleet.ObjectRef.Compare) {
		was := k.bystanders[ref]
		switch u := there[ref]; {
		case u == nil:
			k.fail(t, fmt.Errorf("%s of somebody else is gone", ref))
		case identity(u) != was:
			k.fail(t, fmt.Errorf("%s of somebody else was %s and is %s", ref, was, identity(u)))
		}
	}
}
