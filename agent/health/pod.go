package health

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// PodSelector is how a workload finds its pods, as a label selector; "" for what
// has none. The workload's own status says that pods are missing, and not why.
func PodSelector(u *unstructured.Unstructured) string {
	raw, found, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	if !found || u.GetNamespace() == "" {
		return ""
	}
	var s metav1.LabelSelector
	if runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s) != nil {
		return "" // a Service's, say
	}
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 { // all pods of the namespace
		return ""
	}
	selector, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return ""
	}
	return selector.String()
}

// starting are the reasons of containers that wait as they should.
var starting = []string{"", "ContainerCreating", "PodInitializing"}

// PodTrouble says in one line why a pod does not run: "web-5f7: ImagePullBackOff:
// Back-off pulling image". "" where nothing is wrong with it.
func PodTrouble(pod *unstructured.Unstructured) string {
	o := object{pod}
	if o.GetDeletionTimestamp() != nil {
		return ""
	}
	say := func(c condition) string {
		return strings.Join(strings.Fields(pod.GetName()+": "+c.why()), " ")
	}
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		for _, e := range o.list("status", list) {
			status, _ := e.(map[string]any)
			if c, bad := containerTrouble(status); bad {
				return say(c)
			}
		}
	}
	if c := o.condition("PodScheduled"); c.isFalse() {
		return say(c)
	}
	if o.text("status", "phase") == "Failed" {
		return say(condition{reason: o.text("status", "reason"), message: o.text("status", "message")})
	}
	return ""
}

func containerTrouble(status map[string]any) (condition, bool) {
	at := object{&unstructured.Unstructured{Object: status}}
	waiting := condition{reason: at.text("state", "waiting", "reason"), message: at.text("state", "waiting", "message")}
	ended := "state"
	if at.text("state", "terminated", "reason") == "" {
		ended = "lastState"
	}
	code, _, _ := unstructured.NestedInt64(status, ended, "terminated", "exitCode")
	last := at.text(ended, "terminated", "reason")
	switch {
	case !slices.Contains(starting, waiting.reason):
		if last != "" && code != 0 {
			waiting.message = fmt.Sprintf("%s (it ended with %s, code %d)", waiting.message, last, code)
		}
		return waiting, true
	case ended == "state" && code != 0:
		return condition{reason: last, message: fmt.Sprintf("the container ended with code %d", code)}, true
	}
	return condition{}, false
}
