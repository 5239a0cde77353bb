package inventory_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/inventory"
)

func TestWhatIsLeftToPeopleIsCutOffTheirFields(t *testing.T) {
	for name, c := range map[string]struct {
		fields, pointer string
		rest, cut       string
	}{
		"all they hold":              {`{"f:spec":{"f:fake":{"f:data":{}}}}`, "/spec/fake/data", "", `{"f:spec":{"f:fake":{"f:data":{}}}}`},
		"and what it is in":          {`{"f:spec":{".":{},"f:fake":{".":{},"f:data":{}}}}`, "/spec/fake/data", "", `{"f:spec":{"f:fake":{"f:data":{}}}}`},
		"one of two":                 {`{"f:spec":{"f:a":{},"f:b":{}}}`, "/spec/a", `{"f:spec":{"f:b":{}}}`, `{"f:spec":{"f:a":{}}}`},
		"what is below":              {`{"f:data":{"f:a":{}}}`, "/data", "", `{"f:data":{"f:a":{}}}`},
		"a part of what is held":     {`{"f:spec":{}}`, "/spec/a", "", `{"f:spec":{}}`},
		"an item of a list":          {`{"f:spec":{"f:ports":{"k:{\"port\":80}":{"f:name":{}}},"f:type":{}}}`, "/spec/ports/0/name", `{"f:spec":{"f:type":{}}}`, `{"f:spec":{"f:ports":{"k:{\"port\":80}":{"f:name":{}}}}}`},
		"a key with a slash":         {`{"f:metadata":{"f:labels":{"f:a/b":{}}}}`, "/metadata/labels/a~1b", "", `{"f:metadata":{"f:labels":{"f:a/b":{}}}}`},
		"something else":             {`{"f:spec":{"f:a":{}}}`, "/spec/b", `{"f:spec":{"f:a":{}}}`, ""},
		"nothing, as it is no field": {`{"f:spec":{"f:a":{}}}`, "", `{"f:spec":{"f:a":{}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ours := metav1.ManagedFieldsEntry{Manager: inventory.FieldManager, FieldsV1: metav1.NewFieldsV1(c.fields)}
			theirs := metav1.ManagedFieldsEntry{Manager: "kubectl-patch", FieldsV1: metav1.NewFieldsV1(c.fields)}
			rest, cut := inventory.Apart([]metav1.ManagedFieldsEntry{ours, theirs}, []string{c.pointer}, inventory.IsPerson)
			if len(rest) == 0 || rest[0].FieldsV1.GetRawString() != c.fields {
				t.Fatalf("ours are not as they were: %v", rest)
			}
			if got := held(rest[1:]); got != c.rest {
				t.Errorf("the rest is %s, want %s", got, c.rest)
			}
			if got := held(cut); got != c.cut {
				t.Errorf("cut off is %s, want %s", got, c.cut)
			}
		})
	}
}

func held(managers []metav1.ManagedFieldsEntry) string {
	if len(managers) != 1 || managers[0].Manager != "kubectl-patch" {
		return ""
	}
	return managers[0].FieldsV1.GetRawString()
}
