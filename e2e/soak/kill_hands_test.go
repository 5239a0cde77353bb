package soak_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What people do meanwhile.

// names are the objects that are wanted now.
func (k *kills) names() map[fleet.ObjectRef]bool {
	out := map[fleet.ObjectRef]bool{}
	for _, objects := range k.world.wanted() {
		for ref := range objects {
			out[ref] = true
		}
	}
	return out
}

// push makes and publishes a revision.
func (k *kills) push(t *testing.T) {
	t.Helper()
	ring := k.world.ring
	if k.files != nil {
		k.world.next()
	}
	if k.world.ring != ring {
		k.label(t)
	}
	now := k.world.files()
	changed := maps.Clone(now)
	for name := range k.files {
		if _, there := now[name]; !there {
			changed[name] = ""
		}
	}
	k.files = now
	_, err := k.Fleet.Push(t.Context(), strings.Join(append([]string{"Go on"}, k.world.did...), "\n"), changed)
	must(t, err)
	k.note("pushed: %s", strings.Join(k.world.did, "; "))
	maps.Copy(k.passed, k.names())
}

// label has the hub give the cluster its label, or take it away.
func (k *kills) label(t *testing.T) {
	t.Helper()
	set, remove := map[string]string{"ring": "on"}, []string(nil)
	if !k.world.ring {
		set, remove = nil, []string{"ring"}
	}
	must(t, swarm.Wait(t.Context(), converged, func() error { // the agent may not have joined yet
		_, err := k.Hub.Client.LabelCluster(t.Context(), spokeName, set, remove)
		return err
	}))
}

// intrude has somebody take names that the agent just gave up, or is about to.
func (k *kills) intrude(t *testing.T) {
	t.Helper()
	now := k.names()
	for _, ref := range slices.SortedFunc(maps.Keys(k.passed), fleet.ObjectRef.Compare) {
		if now[ref] || ref.Kind != "ConfigMap" || ref.Namespace != playground {
			continue
		}
		u := bystander(ref, map[string]string{"capstan.dev/app": pick(k.random, appNames), "capstan.dev/app-namespace": agentNamespace})
		made, err := k.api.Resource(configMaps).Namespace(ref.Namespace).Create(t.Context(), u, metav1.CreateOptions{FieldManager: "intruder"})
		if apierrors.IsAlreadyExists(err) {
			continue
		}
		must(t, err)
		k.bystanders[ref] = identity(made)
		k.note("somebody else made %s", ref)
	}
}

// clearIntruders gives the names free again, for later revisions to take.
func (k *kills) clearIntruders(t *testing.T) {
	t.Helper()
	for ref := range k.bystanders {
		if strings.HasPrefix(ref.Name, "item-") || strings.HasPrefix(ref.Name, "frozen-") || strings.HasPrefix(ref.Name, "hook-") {
			must(t, k.api.Resource(configMaps).Namespace(ref.Namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{}))
			delete(k.bystanders, ref)
		}
	}
}

// harm has somebody delete an object of the agent's.
func (k *kills) harm(t *testing.T) {
	t.Helper()
	var all []fleet.ObjectRef
	for ref := range k.names() {
		if ref.Kind == "ConfigMap" && ref.Namespace == playground && !strings.HasPrefix(ref.Name, "hook-") {
			all = append(all, ref)
		}
	}
	slices.SortFunc(all, fleet.ObjectRef.Compare)
	ref := pick(k.random, all)
	if ref.Name == "" {
		return
	}
	err := k.api.Resource(configMaps).Namespace(ref.Namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	must(t, err)
	k.note("somebody deleted %s", ref)
}

// confirm is a person who lets through what the guard holds.
func (k *kills) confirm(ctx context.Context, app *unstructured.Unstructured) error {
	plan, _, _ := unstructured.NestedString(app.Object, "status", "pending", "plan")
	if plan == "" || app.GetAnnotations()[confirmAnnotation] == plan {
		return nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{confirmAnnotation: plan}}})
	if err != nil {
		return err
	}
	_, err = k.api.Resource(appResource).Namespace(app.GetNamespace()).Patch(ctx, app.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: "person"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
