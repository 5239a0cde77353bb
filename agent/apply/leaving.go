package apply

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Leaving is an object that is being deleted.
type Leaving struct {
	Ref        fleet.ObjectRef
	Finalizers []string
	Remains    []string // what a Namespace says itself of what is left in it
}

func leaving(ref fleet.ObjectRef, live *unstructured.Unstructured) Leaving {
	l := Leaving{Ref: ref, Finalizers: live.GetFinalizers()}
	if ref.Group != "" || ref.Kind != "Namespace" {
		return l
	}
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions") // none, then
	for _, each := range conditions {
		c, _ := each.(map[string]any)
		kind, _, _ := unstructured.NestedString(c, "type")
		status, _, _ := unstructured.NestedString(c, "status")
		message, _, _ := unstructured.NestedString(c, "message")
		// Those of a Namespace's end, which are True where something is wrong.
		if strings.HasPrefix(kind, "Namespace") && status == "True" && message != "" {
			l.Remains = append(l.Remains, message)
		}
	}
	return l
}

// String names the object, and what holds it.
func (l Leaving) String() string {
	var holds []string
	if len(l.Finalizers) > 0 {
		holds = append(holds, fmt.Sprintf("finalizers: %v", l.Finalizers))
	}
	if holds = append(holds, l.Remains...); len(holds) == 0 {
		return l.Ref.String()
	}
	return fmt.Sprintf("%s (%s)", l.Ref, strings.Join(holds, "; "))
}
