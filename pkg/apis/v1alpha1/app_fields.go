package v1alpha1

import (
	"reflect"
	"slices"
	"strings"
)

// fieldsAt lists the JSON field names of the struct at path ("spec.source"),
// sorted; nothing where path leads to no struct.
func fieldsAt(t reflect.Type, path string) []string {
	if path != "" {
		for step := range strings.SplitSeq(path, ".") {
			step, _, _ = strings.Cut(step, "[")
			next, ok := fieldNamed(t, step)
			if !ok {
				return nil
			}
			t = next
		}
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range eachField(t) {
		names = append(names, f)
	}
	slices.Sort(names)
	return names
}

func fieldNamed(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for f, ft := range eachField(t) {
		if f == name {
			return ft, true
		}
	}
	return nil, false
}

// eachField yields a struct's fields by JSON name, those of inlined structs
// too, with pointers and lists taken off their types.
func eachField(t reflect.Type) func(yield func(string, reflect.Type) bool) {
	return func(yield func(string, reflect.Type) bool) {
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			ft := f.Type
			for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
				ft = ft.Elem()
			}
			if name == "" && f.Anonymous {
				for n, inner := range eachField(ft) {
					if !yield(n, inner) {
						return
					}
				}
				continue
			}
			if name == "" || name == "-" {
				continue
			}
			if !yield(name, ft) {
				return
			}
		}
	}
}

// nearest finds the name that was probably meant: the same but for case, or at
// most two letters away. "" where there is none.
func nearest(name string, known []string) string {
	best, dist := "", 3
	for _, k := range known {
		d := distance(strings.ToLower(name), strings.ToLower(k))
		if d < dist && d < len(k) {
			best, dist = k, d
		}
	}
	return best
}

// distance is Levenshtein's. Names that somebody else wrote are cut first: a
// long one is near nothing.
func distance(a, b string) int {
	const long = 64
	if len(a) > long || len(b) > long {
		return long
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
