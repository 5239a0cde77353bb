package e2e_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
)

// What agent/apply builds on when it changes an object by its uid: an API server makes
// none in the place of one that is gone, changes no other under its name, and says so
// in these words. The uid is nobody's field, and the object is as it is without.
func TestWhatIsAppliedByItsUIDIsNotMadeInTheSameMoment(t *testing.T) {
	t.Parallel()
	c := bare(t, "replaced")
	apps := withAppCRD(t, c)
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	core := func(resource string) dynamic.ResourceInterface {
		return api.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace("default")
	}
	for kind, of := range map[string]struct {
		resource dynamic.ResourceInterface
		version  string
		body     func(value int) map[string]any
	}{
		"ConfigMap": {core("configmaps"), "v1", func(n int) map[string]any { return map[string]any{"data": map[string]any{"a": strings.Repeat("x", n)}} }},
		"Service": {core("services"), "v1", func(n int) map[string]any {
			return map[string]any{"spec": map[string]any{"ports": []any{map[string]any{"port": 80 + n}}}}
		}},
		"App": {apps, v1alpha1.GroupVersion.String(), func(n int) map[string]any {
			return map[string]any{"spec": map[string]any{"source": map[string]any{"path": strings.Repeat("x", n)}}}
		}},
	} {
		t.Run(kind, func(t *testing.T) {
			isChangedByUID(t, func(n int, uid string) (*unstructured.Unstructured, error) {
				o := map[string]any{"apiVersion": of.version, "kind": kind, "metadata": map[string]any{"name": "one"}}
				if uid != "" {
					o["metadata"] = map[string]any{"name": "one", "uid": uid}
				}
				maps.Copy(o, of.body(n))
				b, err := json.Marshal(o)
				if err != nil {
					return nil, err
				}
				return of.resource.Patch(t.Context(), "one", types.ApplyPatchType, b, metav1.PatchOptions{FieldManager: "capstan", Force: new(true), FieldValidation: metav1.FieldValidationStrict})
			})
		})
	}
}

func isChangedByUID(t *testing.T, send func(n int, uid string) (*unstructured.Unstructured, error)) {
	t.Helper()
	const nobody = "00000000-0000-4000-8000-000000000000"
	if _, err := send(1, nobody); !apierrors.IsConflict(err) {
		t.Fatalf("where nothing is: %v", err)
	}
	first, err := send(1, "")
	if err != nil || first.GetGeneration() > 1 {
		t.Fatalf("it was made before: %v", err)
	}
	_, err = send(2, nobody)
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) || status.Status().Details.Causes[0].Field != "metadata.uid" {
		t.Fatalf("where another is: %v", err)
	}
	second, err := send(2, string(first.GetUID()))
	if err != nil || second.GetUID() != first.GetUID() {
		t.Fatalf("where it is: %v", err)
	}
	without, err := send(2, "")
	if err != nil || without.GetResourceVersion() != second.GetResourceVersion() || len(without.GetManagedFields()) != 1 {
		t.Errorf("it is another with its uid than without: %v", err)
	}
}
