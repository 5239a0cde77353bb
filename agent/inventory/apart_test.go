package inventory_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
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
		"the same of all items":      {`{"f:c":{"k:{\"name\":\"a\"}":{".":{},"f:name":{},"f:resources":{"f:limits":{}}}}}`, "/c/*/resources", `{"f:c":{"k:{\"name\":\"a\"}":{".":{},"f:name":{}}}}`, `{"f:c":{"k:{\"name\":\"a\"}":{"f:resources":{"f:limits":{}}}}}`},
		"any key":                    {`{"f:data":{"f:a":{},"f:b":{}},"f:type":{}}`, "/data/*", `{"f:type":{}}`, `{"f:data":{"f:a":{},"f:b":{}}}`},
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

func TestWhatPeopleAddedIsTheirsWhereARuleSaysSo(t *testing.T) {
	store := fleet.ObjectRef{Group: "external-secrets.io", Kind: "SecretStore", Namespace: "shop", Name: "vault"}
	rules := []inventory.Rule{{Kind: "SecretStore", Pointers: []string{"/spec/fake/data", "/spec/other"}}, {Kind: "SecretStore", Pointers: []string{"/spec/tuned"}, Managers: []string{"tuner"}}}
	entry := func(manager, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	managers := []metav1.ManagedFieldsEntry{
		entry(inventory.FieldManager, `{"f:spec":{"f:other":{}}}`),
		entry("kubectl-patch", `{"f:spec":{"f:fake":{"f:data":{}},"f:tuned":{}}}`),
	}
	if got := inventory.Held(rules, store, managers); !slices.Equal(got, []string{"/spec/fake/data"}) {
		t.Errorf("held: %v", got)
	}
	if got := inventory.Held(rules, fleet.ObjectRef{Kind: "ConfigMap"}, managers); got != nil {
		t.Errorf("of another kind: %v", got)
	}
}
