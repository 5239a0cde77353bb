package hooks

import (
	"bytes"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// RunAnnotation is on a hook's object: for which run it was made.
const RunAnnotation = "capstan.dev/hook-run"

// Standing is what is found where a hook's object is to be made.
type Standing int

const (
	Absent   Standing = iota // nothing
	Begun                    // the object itself: it was made, and nobody heard of it
	InTheWay                 // what an earlier run of it left, ours or another tool's
	Foreign                  // something else of the same name
)

// Stand tells what a live object is to a hook; nil: there is none. uid is of what
// is known to be there, "" where nothing is.
func Stand(live *unstructured.Unstructured, app fleet.AppName, stamp, uid string) Standing {
	if live == nil {
		return Absent
	}
	l := live.GetLabels()
	name, namespace := l[inventory.AppLabel], l[inventory.NamespaceLabel]
	ours := name == app.Name && namespace == app.Namespace
	switch {
	case ours && live.GetAnnotations()[RunAnnotation] == stamp && live.GetDeletionTimestamp() == nil:
		return Begun
	case uid != "" && string(live.GetUID()) == uid:
		return InTheWay
	case !applied(live):
		name = "" // a controller copied the labels
	}
	switch {
	case name != "" && ours:
		return InTheWay
	case name != "":
		return Foreign
	case IsMarked(live.GetAnnotations()):
		return InTheWay
	}
	return Foreign
}

func applied(live *unstructured.Unstructured) bool {
	for _, m := range live.GetManagedFields() {
		if m.Manager == inventory.FieldManager && m.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

// Stamped is a hook's object as it is sent.
func Stamped(o unit.Object, stamp string) (unit.Object, error) {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(o.JSON))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return o, fmt.Errorf("%s: %w", o.Ref, err)
	}
	meta, _ := m["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	if annotations == nil { // it is a hook by one of them
		return o, fleet.Invalid("%s: its annotations can't be read", o.Ref)
	}
	annotations[RunAnnotation] = stamp
	var err error
	o.JSON, err = fleet.Canonical(m)
	return o, err
}
