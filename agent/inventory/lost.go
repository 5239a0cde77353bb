package inventory

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Lost lists, as JSON pointers, the fields of an object as it was applied that a
// live one does not have so: what somebody changed or took away. Fields that live
// has besides are not listed: defaults and other controllers put them there.
//
// A field that managedFields says is still ours is not lost, whatever its value:
// whoever changes a value takes the field from us, so it was an admission webhook
// or policy that made this of what we sent.
func Lost(applied, live map[string]any) []string {
	var ours map[string]any
	for _, m := range managers(live) {
		if m.name == FieldManager && m.operation == "Apply" && m.subresource == "" {
			ours = m.fields
		}
	}
	l := loss{}
	for _, k := range slices.Sorted(maps.Keys(applied)) {
		if k == "apiVersion" || k == "kind" {
			continue // they name the object, and nobody owns them
		}
		below, held := child(ours, "f:"+k)
		l.at("/"+escape(k), applied[k], live[k], below, held)
	}
	return l.paths
}

type loss struct{ paths []string }

func (l *loss) lose(path string) { l.paths = append(l.paths, path) }

// at compares one value. ours is what of it is ours by managedFields, held that
// the field itself is.
func (l *loss) at(path string, applied, live any, ours map[string]any, held bool) {
	switch want := applied.(type) {
	case map[string]any:
		got, ok := live.(map[string]any)
		if !ok {
			l.lose(path)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			below, heldBelow := child(ours, "f:"+k)
			if len(ours) == 0 && held { // held whole, as an atomic map is
				heldBelow = true
			}
			if _, there := got[k]; !there && isNothing(want[k]) {
				continue // what is empty may be left out
			}
			l.at(path+"/"+escape(k), want[k], got[k], below, heldBelow)
		}
	case []any:
		got, ok := live.([]any)
		switch {
		case !ok:
			l.lose(path)
		case hasItems(ours):
			l.items(path, want, got, ours)
		case len(got) == len(want):
			for i := range want {
				l.at(fmt.Sprintf("%s/%d", path, i), want[i], got[i], nil, held)
			}
		case !held:
			l.lose(path)
		}
	default:
		if !held && !same(applied, live) {
			l.lose(path)
		}
	}
}

// items compares a list whose items are owned one by one: each of ours must be
// there, wherever it stands and whatever stands beside it.
func (l *loss) items(path string, want, got []any, ours map[string]any) {
	for i, item := range want {
		at := fmt.Sprintf("%s/%d", path, i)
		found := false
		for element, below := range ours {
			w, isItem := step([]any{item}, element)
			if !isItem || element == "." {
				continue
			}
			fields, _ := below.(map[string]any)
			if g, there := step(got, element); there {
				l.at(at, w, g, fields, true)
				found = true
			}
			break
		}
		if !found && !slices.ContainsFunc(got, func(g any) bool { return same(item, g) }) {
			l.lose(path)
			return
		}
	}
}

// hasItems tells a field set of a list's items from others.
func hasItems(ours map[string]any) bool {
	for k := range ours {
		if strings.HasPrefix(k, "k:") || strings.HasPrefix(k, "v:") {
			return true
		}
	}
	return false
}

func child(ours map[string]any, element string) (map[string]any, bool) {
	v, held := ours[element]
	below, _ := v.(map[string]any)
	return below, held
}

// isNothing tells a value that an API server may drop.
func isNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// same compares JSON values; 1 (int64) and 1 (float64) are the same number.
func same(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }
