// Package selection decides which apps are for this cluster. It is pure.
package selection

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Effective gives the labels that select: what the spoke declares wins, and
// what the hub assigns counts for the keys the spoke lists as assignable.
func Effective(declared, assigned map[string]string, assignable []string) map[string]string {
	out := make(map[string]string, len(declared)+len(assigned))
	for k, v := range assigned {
		if slices.Contains(assignable, k) {
			out[k] = v
		}
	}
	maps.Copy(out, declared)
	return out
}

// Matches tells whether a selector takes a cluster with these labels. No
// selector, and an empty one, take every cluster.
func Matches(selector *metav1.LabelSelector, clusterLabels map[string]string) (bool, error) {
	if selector == nil {
		return true, nil
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, fmt.Errorf("label selector: %w", err)
	}
	return s.Matches(labels.Set(clusterLabels)), nil
}
