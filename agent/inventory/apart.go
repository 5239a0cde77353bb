package inventory

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Apart cuts off what some field managers hold at or below JSON pointers. Of those,
// who holds nothing else is not among the rest. A list's items go by their keys
// there, not by number: where a pointer leads into a list, all of it is cut off.
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
	key := "f:" + strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
	below, ok := from[key].(map[string]any)
	if !ok {
		return
	}
	if len(path) == 1 || !hasFields(below) {
		to[key] = below
		delete(from, key)
		return
	}
	there, ok := to[key].(map[string]any)
	if !ok {
		there = map[string]any{}
	}
	if move(below, there, path[1:]); len(there) == 0 {
		return
	}
	to[key] = there
	if !hasFields(below) { // that the container is there goes with what was in it
		delete(from, key)
	}
}

// hasFields tells a set that goes on by the names of fields from one that is held
// whole, and from a list.
func hasFields(set map[string]any) bool {
	for key := range set {
		if strings.HasPrefix(key, "f:") {
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
