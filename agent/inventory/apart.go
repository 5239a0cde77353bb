package inventory

import (
	"encoding/json"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Apart cuts off what some field managers hold at or below JSON pointers, in which
// "*" stands for any key or index. Of those, who holds nothing else is not among the
// rest. A list's items go by their keys there, not by number: an index means all.
func Apart(managers []metav1.ManagedFieldsEntry, pointers []string, whose func(string) bool) (rest, cut []metav1.ManagedFieldsEntry) {
	for _, m := range managers {
		theirs, off := apart(m.FieldsV1, pointers)
		if off == nil || !whose(m.Manager) {
			rest = append(rest, m)
			continue
		}
		if theirs != nil {
			m.FieldsV1 = theirs
			rest = append(rest, m)
		}
		m.FieldsV1 = off
		cut = append(cut, m)
	}
	return rest, cut
}

// Added tells that people hold fields beside ours, but for what is left to them.
func Added(managers []metav1.ManagedFieldsEntry, left []string) bool {
	rest, _ := Apart(managers, left, IsPerson)
	return slices.ContainsFunc(rest, func(m metav1.ManagedFieldsEntry) bool { return IsPerson(m.Manager) && m.Subresource == "" })
}

func apart(fields *metav1.FieldsV1, pointers []string) (rest, cut *metav1.FieldsV1) {
	var tree map[string]any
	if fields == nil || len(pointers) == 0 || json.Unmarshal(fields.GetRawBytes(), &tree) != nil {
		return fields, nil
	}
	off := map[string]any{}
	for _, p := range pointers {
		move(tree, off, strings.Split(strings.TrimPrefix(p, "/"), "/"))
	}
	return fieldsOf(tree), fieldsOf(off)
}

// move takes what is at a path out of one field set and puts it into another.
func move(from, to map[string]any, path []string) {
	for _, key := range steps(from, path[0]) {
		below, _ := from[key].(map[string]any)
		if len(path) == 1 || !goesOn(below) { // or it is held whole
			to[key] = below
			delete(from, key)
			continue
		}
		there, ok := to[key].(map[string]any)
		if !ok {
			there = map[string]any{}
		}
		if move(below, there, path[1:]); len(there) == 0 {
			continue
		}
		to[key] = there
		if !goesOn(below) { // that the container is there goes with what was in it
			delete(from, key)
		}
	}
}

// steps are the keys of a field set that one step of a pointer leads to.
func steps(set map[string]any, step string) []string {
	field := "f:" + strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
	var keys []string
	for key := range set {
		if isItem(key) || key == field || step == "*" && strings.HasPrefix(key, "f:") {
			keys = append(keys, key)
		}
	}
	return keys
}

func isItem(key string) bool {
	return strings.HasPrefix(key, "k:") || strings.HasPrefix(key, "v:") || strings.HasPrefix(key, "i:")
}

// goesOn tells a set that has fields or items from one that is held whole.
func goesOn(set map[string]any) bool {
	for key := range set {
		if strings.HasPrefix(key, "f:") || isItem(key) {
			return true
		}
	}
	return false
}

func fieldsOf(tree map[string]any) *metav1.FieldsV1 {
	if len(tree) == 0 {
		return nil
	}
	b, _ := json.Marshal(tree) // a decoded JSON value always encodes
	return metav1.NewFieldsV1(string(b))
}
