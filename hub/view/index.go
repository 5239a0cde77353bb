package view

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// index finds clusters by a label: most questions are about a few of many.
type index map[label]map[string]struct{}

type label struct{ key, value string }

// move takes a cluster from where its labels had it to where they have it now.
func (x index) move(cluster string, before, now map[string]string) {
	for k, val := range before {
		if have, ok := now[k]; ok && have == val {
			continue
		}
		at := label{k, val}
		delete(x[at], cluster)
		if len(x[at]) == 0 {
			delete(x, at)
		}
	}
	for k, val := range now {
		at := label{k, val}
		if x[at] == nil {
			x[at] = make(map[string]struct{})
		}
		x[at][cluster] = struct{}{}
	}
}

// candidates are the clusters, in order, that one term of a selector leaves: the
// one that leaves the fewest. Not ok: no term names values.
func (x index) candidates(match labels.Selector) (names []string, ok bool) {
	terms, _ := match.Requirements()
	var fewest labels.Requirement
	count := 0
	for _, t := range terms {
		if !slices.Contains([]selection.Operator{selection.Equals, selection.DoubleEquals, selection.In}, t.Operator()) {
			continue
		}
		n := 0
		for val := range t.Values() {
			n += len(x[label{t.Key(), val}])
		}
		if !ok || n < count {
			fewest, count, ok = t, n, true
		}
	}
	if !ok {
		return nil, false
	}
	names = make([]string, 0, count)
	for val := range fewest.Values() {
		for name := range x[label{fewest.Key(), val}] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, true
}
