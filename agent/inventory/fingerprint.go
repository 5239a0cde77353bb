package inventory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strings"
)

// Fingerprint hashes, under key, what we own of a live object: the fields that
// managedFields says are ours and their values, and which fields people's
// kubectl owns. It moves when somebody changes, takes over or deletes a field
// of ours, or adds one by kubectl; it stays when a controller writes status or
// fields of its own.
//
// It is keyed because it is stored and compared but must not let anybody guess
// a Secret's value.
func Fingerprint(key []byte, live map[string]any) string {
	h := hmac.New(sha256.New, key)
	for _, m := range managers(live) {
		switch {
		case m.name == FieldManager && m.operation == "Apply" && m.subresource == "":
			hashOwned(h, m.fields, live)
		case IsPerson(m.name) && m.subresource != "status": // kubectl scale has a subresource of its own
			h.Write([]byte(m.name))
			b, _ := json.Marshal(m.fields) // a decoded JSON value always encodes
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// IsPerson tells the field managers of people at a keyboard from controllers.
// A rollout restart is a person who wants just that, and not to change the app.
func IsPerson(manager string) bool {
	return strings.HasPrefix(manager, "kubectl") && manager != "kubectl-rollout"
}

type manager struct {
	name, operation, subresource string
	fields                       map[string]any
}

func managers(live map[string]any) []manager {
	meta, _ := live["metadata"].(map[string]any)
	list, _ := meta["managedFields"].([]any)
	var out []manager
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m["manager"].(string)
		op, _ := m["operation"].(string)
		sub, _ := m["subresource"].(string)
		fields, _ := m["fieldsV1"].(map[string]any)
		out = append(out, manager{name, op, sub, fields})
	}
	return out
}

// hashOwned walks a fieldsV1 tree beside the value it describes.
func hashOwned(h hash.Hash, fields map[string]any, value any) {
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		h.Write([]byte(k))
		h.Write([]byte{0})
		child, ok := step(value, k)
		below, _ := fields[k].(map[string]any)
		switch {
		case k == ".": // the container itself: that it is there is enough
		case !ok:
			h.Write([]byte("absent"))
		case len(below) > 0:
			hashOwned(h, below, child)
		default:
			b, _ := json.Marshal(child) // a decoded JSON value always encodes
			h.Write(b)
		}
		h.Write([]byte{1})
	}
}

// step follows one path element of fieldsV1: f:<field>, k:<keys of a list
// item>, v:<value of a set's item>.
func step(value any, element string) (any, bool) {
	kind, rest, _ := strings.Cut(element, ":")
	switch kind {
	case "f":
		m, _ := value.(map[string]any)
		v, ok := m[rest]
		return v, ok
	case "k":
		var keys map[string]any
		if json.Unmarshal([]byte(rest), &keys) != nil {
			return nil, false
		}
		list, _ := value.([]any)
		for _, item := range list {
			if m, ok := item.(map[string]any); ok && hasAll(m, keys) {
				return item, true
			}
		}
	case "v":
		list, _ := value.([]any)
		for _, item := range list {
			if b, err := json.Marshal(item); err == nil && string(b) == rest {
				return item, true
			}
		}
	}
	return nil, false
}

func hasAll(item, keys map[string]any) bool {
	for k, want := range keys {
		got, ok := item[k]
		if !ok {
			// A key with a default may be absent in the object: {"protocol":"TCP"}.
			if k == "protocol" && want == "TCP" {
				continue
			}
			return false
		}
		a, errA := json.Marshal(got)
		b, errB := json.Marshal(want)
		if errA != nil || errB != nil || string(a) != string(b) {
			return false
		}
	}
	return true
}
