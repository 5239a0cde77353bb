package plan

import (
	"encoding/json"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// OnlyRelabelled tells that nothing but metadata.labels differs between two
// versions of an object, and that an API server takes the new ones by its own
// rules. A Namespace is never only relabelled: its labels are rules for others.
func OnlyRelabelled(was, is unit.Object) bool {
	if is.Ref.Namespace == "" || !was.Ref.Same(is.Ref) || was.Ref.Version != is.Ref.Version {
		return false
	}
	before, _, ok := withoutLabels(was.JSON)
	if !ok {
		return false
	}
	after, labels, ok := withoutLabels(is.JSON)
	return ok && reflect.DeepEqual(before, after) && len(metav1validation.ValidateLabels(labels, field.NewPath("metadata", "labels"))) == 0
}

// withoutLabels takes the labels out of an object; not ok: they are none.
func withoutLabels(object []byte) (rest map[string]any, labels map[string]string, ok bool) {
	if json.Unmarshal(object, &rest) != nil {
		return nil, nil, false
	}
	labels, _, err := unstructured.NestedStringMap(rest, "metadata", "labels")
	unstructured.RemoveNestedField(rest, "metadata", "labels")
	return rest, labels, err == nil
}
