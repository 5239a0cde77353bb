package api

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// paged answers with the items of one page. A page begins after the key of the
// last item of the one before, so that what comes and goes meanwhile moves
// nothing else. items are in the order of their keys.
func paged[T any](q url.Values, items []T, key func(T) string) (any, error) {
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	if c := q.Get("continue"); c != "" {
		after, err := base64.RawURLEncoding.DecodeString(c)
		if err != nil || len(after) == 0 {
			return nil, fleet.WithHint(fleet.Invalid("continue %q is not from a page of this list", c), "give it as the page before said")
		}
		last := strings.Split(string(after), "/")
		items = slices.DeleteFunc(items, func(item T) bool { return slices.Compare(strings.Split(key(item), "/"), last) <= 0 })
	}
	out := list(items)
	if most > 0 && len(items) > most {
		out.Items = items[:most]
		out.Continue = base64.RawURLEncoding.EncodeToString([]byte(key(items[most-1])))
		out.Remaining = len(items) - most
	}
	return out, nil
}

func list[T any](items []T) client.List[T] {
	if items == nil {
		items = []T{}
	}
	return client.List[T]{Items: items}
}

func limit(q url.Values) (int, error) {
	raw := q.Get("limit")
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n <= 0 {
		return 0, fleet.Invalid("limit %q is not a number above 0", raw)
	}
	return n, nil
}

func boolean(q url.Values, name string) (bool, error) {
	switch raw := q.Get(name); raw {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fleet.Invalid("%s %q is neither true nor false", name, raw)
	}
}

func moment(q url.Values, name string) (time.Time, error) {
	raw := q.Get(name)
	if raw == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, raw)
	if err != nil {
		return t, fleet.WithHint(fleet.Invalid("%s %q is not a time", name, raw), "write it like 2026-03-14T09:26:53Z")
	}
	return t, nil
}

// selected leaves of an answer's items the fields that are asked for. out is a
// value of the answer's type.
func selected(body []byte, fields string, out any) ([]byte, error) {
	items, _ := reflect.TypeOf(out).FieldByName("Items")
	var paths [][]string
	for f := range strings.SplitSeq(fields, ",") {
		path := strings.Split(f, ".")
		if !hasField(items.Type.Elem(), path) {
			return nil, fleet.WithHint(fleet.Invalid("field %q is not known", f), "known are: "+strings.Join(fieldNames(items.Type.Elem()), ", "))
		}
		paths = append(paths, path)
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	var all []map[string]json.RawMessage
	if err := json.Unmarshal(answer["items"], &all); err != nil {
		return nil, err
	}
	picked := make([]map[string]any, len(all))
	for i, item := range all {
		picked[i] = map[string]any{}
		for _, path := range paths {
			if err := pick(item, path, picked[i]); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if answer["items"], err = encode(picked); err != nil {
		return nil, err
	}
	return encode(answer)
}

// pick copies what is at a path of from; what is not there is left out.
func pick(from map[string]json.RawMessage, path []string, to map[string]any) error {
	value, ok := from[path[0]]
	if !ok {
		return nil
	}
	if len(path) == 1 || string(value) == "null" {
		to[path[0]] = value
		return nil
	}
	var below map[string]json.RawMessage
	if err := json.Unmarshal(value, &below); err != nil {
		return err
	}
	next, ok := to[path[0]].(map[string]any)
	if !ok {
		next = map[string]any{}
		to[path[0]] = next
	}
	return pick(below, path[1:], next)
}

// hasField tells whether a type's JSON can have something at a path. Into lists
// and free maps no path leads; a map's keys are its own.
func hasField(t reflect.Type, path []string) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Map {
		return len(path) == 1 && path[0] != ""
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	for _, f := range jsonFields(t) {
		if f.name == path[0] {
			return len(path) == 1 || hasField(f.kind, path[1:])
		}
	}
	return false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for _, f := range jsonFields(t) {
		names = append(names, f.name)
	}
	return names
}

// jsonField is one field of a struct, as encoding/json sees it.
type jsonField struct {
	name     string
	kind     reflect.Type
	optional bool
}

func jsonFields(t reflect.Type) []jsonField {
	var out []jsonField
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			out = append(out, jsonFields(f.Type)...)
		default:
			if name == "" {
				name = f.Name
			}
			out = append(out, jsonField{name, f.Type, strings.Contains(options, "omit")})
		}
	}
	return out
}
