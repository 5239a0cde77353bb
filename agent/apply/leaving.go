package apply

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Leaving is an object that is being deleted.
type Leaving struct {
	Ref        fleet.ObjectRef
	UID        string
	Finalizers []string
	Remains    []string // what a Namespace says itself of what is left in it
	Unfound    bool     // a Namespace can't be looked through: an API does not answer
}

func leaving(ref fleet.ObjectRef, live *unstructured.Unstructured) Leaving {
	l := Leaving{Ref: ref, UID: string(live.GetUID()), Finalizers: live.GetFinalizers()}
	if !isNamespace(ref) {
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
			l.Unfound = l.Unfound || kind == "NamespaceDeletionDiscoveryFailure"
		}
	}
	return l
}

// crdCleanup is held by a CustomResourceDefinition until the last object of its kind
// is gone.
const crdCleanup = "customresourcecleanup.apiextensions.k8s.io"

// Hint says what to do where an object does not go; "" where nothing is known to
// hold it.
func (l Leaving) Hint() string {
	mend := "a finalizer is taken off by the controller that put it there: see that it runs; where it is gone for good, take the finalizer off by hand"
	switch {
	case l.Unfound:
		return "an API server that was added by an APIService does not answer: mend it, or delete the APIService (kubectl get apiservices says which is not available)"
	case len(l.Remains) > 0:
		return "look at what is left in the namespace; " + mend
	case slices.Contains(l.Finalizers, crdCleanup):
		return "look at what is left of its kind: kubectl get " + l.Ref.Name + " --all-namespaces; " + mend
	case len(l.Finalizers) == 1 && l.Finalizers[0] == metav1.FinalizerDeleteDependents:
		return "what it owns goes first: see what holds that"
	case len(l.Finalizers) > 0:
		return mend
	}
	return ""
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
