package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// the kinds of one app, and where they are served
var resources = map[string]schema.GroupVersionResource{
	"deployment":     {Group: "apps", Version: "v1", Resource: "deployments"},
	"service":        {Version: "v1", Resource: "services"},
	"configmap":      {Version: "v1", Resource: "configmaps"},
	"serviceaccount": {Version: "v1", Resource: "serviceaccounts"},
}

// floorWorkers is how many requests the floor has in flight.
const floorWorkers = 16

// floor is how long plain server-side applies of the same objects take: no
// render, no inventory, no watch, no status. Nothing that applies can be faster.
func floor(ctx context.Context, api dynamic.Interface, ns, release string, from, to int) (time.Duration, error) {
	if err := makeNamespace(ctx, api, ns); err != nil {
		return 0, err
	}
	type job struct {
		resource schema.GroupVersionResource
		name     string
		body     []byte
	}
	var jobs []job
	for i := from; i < to; i++ {
		for kind, text := range baseObjects(appName(i)) {
			var u unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
				return 0, err
			}
			u.SetNamespace(ns)
			u.SetLabels(map[string]string{"env": "bench", "release": release})
			body, err := u.MarshalJSON()
			if err != nil {
				return 0, err
			}
			jobs = append(jobs, job{resources[kind], u.GetName(), body})
		}
	}
	force := true
	var g errgroup.Group
	g.SetLimit(floorWorkers)
	start := time.Now()
	for _, j := range jobs {
		g.Go(func() error {
			_, err := api.Resource(j.resource).Namespace(ns).Patch(ctx, j.name, types.ApplyPatchType, j.body,
				metav1.PatchOptions{FieldManager: "floor", Force: &force})
			return err
		})
	}
	err := g.Wait()
	return time.Since(start), err
}

func makeNamespace(ctx context.Context, api dynamic.Interface, name string) error {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
	_, err := api.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Apply(ctx, name, u, metav1.ApplyOptions{FieldManager: "floor"})
	return err
}
