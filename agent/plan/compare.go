package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Compare lists the fields in which two JSON trees differ, by JSON pointer, in
// order. Lists are compared whole where their lengths differ, so that an item
// in the middle does not show as a change of all that follow.
func Compare(from, to any) []fleet.FieldDiff {
	var out []fleet.FieldDiff
	compare("", from, to, &out)
	return out
}

func compare(path string, a, b any, out *[]fleet.FieldDiff) {
	if equal(a, b) {
		return
	}
	ma, isMapA := a.(map[string]any)
	mb, isMapB := b.(map[string]any)
	if isMapA && isMapB {
		keys := make(map[string]bool, len(ma)+len(mb))
		for k := range ma {
			keys[k] = true
		}
		for k := range mb {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			va, inA := ma[k]
			vb, inB := mb[k]
			p := path + "/" + escape(k)
			switch {
			case !inA:
				*out = append(*out, fleet.FieldDiff{Path: p, To: raw(vb)})
			case !inB:
				*out = append(*out, fleet.FieldDiff{Path: p, From: raw(va)})
			default:
				compare(p, va, vb, out)
			}
		}
		return
	}
	la, isListA := a.([]any)
	lb, isListB := b.([]any)
	if isListA && isListB && len(la) == len(lb) {
		for i := range la {
			compare(fmt.Sprintf("%s/%d", path, i), la[i], lb[i], out)
		}
		return
	}
	*out = append(*out, fleet.FieldDiff{Path: path, From: raw(a), To: raw(b)})
}

// equal compares JSON values; 1 (int64) and 1 (float64) are the same number.
func equal(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	switch a.(type) {
	case map[string]any, []any, string, bool, nil:
		return false
	}
	return string(raw(a)) == string(raw(b))
}

func raw(v any) json.RawMessage {
	b, _ := json.Marshal(v) // a decoded JSON value always encodes
	return b
}

func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
