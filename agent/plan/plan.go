// Package plan makes what people and gates look at: the masked document whose
// digest an approval names, and the field-by-field difference a change would
// make. It is pure, and no secret value passes through it in clear.
package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Document gives an app's wanted state in the form that may leave the spoke.
// key is the spoke's own: equal values look equal, and nothing else is told.
func Document(spec json.RawMessage, repoURL string, objects []unit.Object, key []byte) (fleet.Document, error) {
	doc := fleet.Document{Spec: spec, RepoURL: repoURL, Objects: make([]json.RawMessage, 0, len(objects))}
	sorted := slices.SortedFunc(slices.Values(objects), func(a, b unit.Object) int { return a.Ref.Compare(b.Ref) })
	for _, o := range sorted {
		b, err := maskObject(o, key)
		if err != nil {
			return fleet.Document{}, fmt.Errorf("%s: %w", o.Ref, err)
		}
		doc.Objects = append(doc.Objects, b)
	}
	return doc, nil
}

func maskObject(o unit.Object, key []byte) (json.RawMessage, error) {
	if !isSecret(o.Ref) && len(o.Masked) == 0 {
		return o.JSON, nil
	}
	var m map[string]any
	if err := json.Unmarshal(o.JSON, &m); err != nil {
		return nil, err
	}
	hide(o, m, key)
	return fleet.Canonical(m)
}

// hide masks an object's secret values: those of a Secret, and those that came
// out of encrypted files.
func hide(o unit.Object, m map[string]any, key []byte) {
	if isSecret(o.Ref) {
		mask(m, key)
	}
	for _, path := range o.Masked {
		maskAt(m, strings.Split(path, "/")[1:], key)
	}
	if len(o.Masked) > 0 {
		maskLastApplied(m, key)
	}
}

// maskAt masks what stands at a path, in every item of the lists on its way.
func maskAt(v any, path []string, key []byte) {
	if len(path) == 0 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			if path[0] != "*" && escape(k) != path[0] {
				continue
			}
			if len(path) == 1 {
				v[k] = maskValue(below, key)
			} else {
				maskAt(below, path[1:], key)
			}
		}
	case []any:
		for i, below := range v {
			if len(path) == 1 {
				v[i] = maskValue(below, key)
			} else {
				maskAt(below, path[1:], key)
			}
		}
	}
}

func isSecret(r fleet.ObjectRef) bool { return r.Group == "" && r.Kind == "Secret" }

// secretFields are the parts of a Secret that hold values. The annotation is
// where client-side apply left a copy of them.
var secretFields = []string{"data", "stringData"}

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func mask(secret map[string]any, key []byte) {
	for _, f := range secretFields {
		values, _ := secret[f].(map[string]any)
		for k, v := range values {
			values[k] = maskValue(v, key)
		}
	}
	maskLastApplied(secret, key)
}

func maskLastApplied(object map[string]any, key []byte) {
	meta, _ := object["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	if v, ok := annotations[lastApplied]; ok {
		annotations[lastApplied] = maskValue(v, key)
	}
}

func maskValue(v any, key []byte) string {
	h := hmac.New(sha256.New, key)
	b, _ := json.Marshal(v) // a decoded JSON value always encodes
	h.Write(b)
	return "hmac-sha256:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// serverFields are set by the API server and mean nothing in a difference.
var serverFields = []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}

// Diff compares a live object with what a dry-run says it would become.
// o is the object as it is wanted; live is nil for one that does not exist. The labels by which the agent
// marks its objects are part of the difference: nothing is hidden.
func Diff(o unit.Object, live, becomes map[string]any, key []byte) fleet.Change {
	c := fleet.Change{Object: o.Ref, Action: fleet.Create}
	if live == nil {
		return c
	}
	a, b := clean(live), clean(becomes)
	if isSecret(o.Ref) || len(o.Masked) > 0 {
		for _, side := range []map[string]any{a, b} {
			hide(o, side, key)
			dropLastApplied(side)
		}
	}
	fields := Compare(a, b)
	for i := range fields {
		if isSecret(o.Ref) && isSecretPath(fields[i].Path) || isMasked(o.Masked, fields[i].Path) {
			fields[i] = fleet.FieldDiff{Path: fields[i].Path, Masked: true}
		}
	}
	c.Action, c.Fields = fleet.Update, fields
	if len(fields) == 0 {
		c.Action, c.Fields = fleet.Unchanged, nil
	}
	return c
}

// Recreation compares a live object with the one that takes its place: only the
// fields that are wanted count, because the others are the API server's to fill in.
func Recreation(o unit.Object, live, wanted map[string]any, key []byte) fleet.Change {
	c := Diff(o, onlyOf(live, wanted).(map[string]any), wanted, key)
	c.Action = fleet.Recreate
	return c
}

// onlyOf leaves of a value what another one has too.
func onlyOf(live, wanted any) any {
	switch want := wanted.(type) {
	case map[string]any:
		got, ok := live.(map[string]any)
		if !ok {
			return live
		}
		out := map[string]any{}
		for k := range want {
			if v, there := got[k]; there {
				out[k] = onlyOf(v, want[k])
			}
		}
		return out
	case []any:
		got, ok := live.([]any)
		if !ok || len(got) != len(want) {
			return live
		}
		out := make([]any, len(got))
		for i := range got {
			out[i] = onlyOf(got[i], want[i])
		}
		return out
	}
	return live
}

func isSecretPath(path string) bool {
	for _, f := range secretFields {
		if path == "/"+f || len(path) > len(f)+1 && path[:len(f)+2] == "/"+f+"/" {
			return true
		}
	}
	return false
}

// isMasked tells whether a pointer leads to, or into, what a pattern says.
func isMasked(patterns []string, pointer string) bool {
	at := strings.Split(pointer, "/")
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		want := strings.Split(pattern, "/")
		if len(at) < len(want) {
			return false
		}
		for i, w := range want {
			if w != "*" && w != at[i] {
				return false
			}
		}
		return true
	})
}

// dropLastApplied takes client-side apply's copy of a Secret out of a
// difference: it changes with every value, and says nothing of its own.
func dropLastApplied(secret map[string]any) {
	meta, _ := secret["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	delete(annotations, lastApplied)
	if len(annotations) == 0 {
		delete(meta, "annotations")
	}
}

// clean copies an object without status and what the server sets.
func clean(o map[string]any) map[string]any {
	out := deepCopy(o).(map[string]any)
	delete(out, "status")
	if meta, ok := out["metadata"].(map[string]any); ok {
		for _, f := range serverFields {
			delete(meta, f)
		}
	}
	return out
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = deepCopy(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = deepCopy(e)
		}
		return out
	}
	return v
}
