package inventory_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
)

func TestWhatOfOursIsLost(t *testing.T) {
	// What is ours by managedFields, where a case says nothing else.
	const ours = `{"f:metadata":{"f:labels":{"f:env":{}}},"f:spec":{"f:replicas":{},"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:name":{},"f:image":{}}}}}`
	for _, c := range []struct {
		name, applied, live, ours, want string
	}{
		{"nothing", `{"spec":{"replicas":2}}`, `{"spec":{"replicas":2,"added":"by a default"}}`, ours, ""},
		{"a value somebody else holds now", `{"spec":{"replicas":2}}`, `{"spec":{"replicas":7}}`, `{"f:spec":{"f:other":{}}}`, "/spec/replicas"},
		{"a field that is gone", `{"spec":{"replicas":2,"kept":"x"}}`, `{"spec":{"kept":"x"}}`, `{"f:spec":{"f:kept":{}}}`, "/spec/replicas"},
		{"a value that admission rewrote", `{"metadata":{"labels":{"env":"dev"}}}`, `{"metadata":{"labels":{"env":"rewritten"}}}`, ours, ""},
		{"a quantity in other words", `{"spec":{"replicas":"1000m"}}`, `{"spec":{"replicas":"1"}}`, ours, ""},
		{"a container that admission put beside ours", `{"spec":{"containers":[{"name":"web","image":"a"}]}}`, `{"spec":{"containers":[{"name":"proxy","image":"p"},{"name":"web","image":"a"}]}}`, ours, ""},
		{"a container of ours whose image somebody holds now", `{"spec":{"containers":[{"name":"web","image":"a"}]}}`, `{"spec":{"containers":[{"name":"proxy"},{"name":"web","image":"b"}]}}`, `{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:name":{}}}}}`, "/spec/containers/0/image"},
		{"a container of ours that is gone", `{"spec":{"containers":[{"name":"web"},{"name":"log"}]}}`, `{"spec":{"containers":[{"name":"web"}]}}`, ours, "/spec/containers"},
		{"a container that is not ours any more, and the same", `{"spec":{"containers":[{"name":"web"},{"name":"log"}]}}`, `{"spec":{"containers":[{"name":"web"},{"name":"log"}]}}`, ours, ""},
		{"a set of words", `{"metadata":{"finalizers":["a","b"]}}`, `{"metadata":{"finalizers":["c","b","a"]}}`, `{"f:metadata":{"f:finalizers":{"v:\"a\"":{},"v:\"b\"":{}}}}`, ""},
		{"a word of a set that is gone", `{"metadata":{"finalizers":["a","b"]}}`, `{"metadata":{"finalizers":["a"]}}`, `{"f:metadata":{"f:finalizers":{"v:\"a\"":{}}}}`, "/metadata/finalizers"},
		{"an atomic list somebody else holds", `{"spec":{"args":["a","b"]}}`, `{"spec":{"args":["a"]}}`, `{"f:spec":{"f:other":{}}}`, "/spec/args"},
		{"an atomic list that admission rewrote", `{"spec":{"args":["a","b"]}}`, `{"spec":{"args":["a","b","c"]}}`, `{"f:spec":{"f:args":{}}}`, ""},
		{"an empty field the API server left out", `{"spec":{"empty":{}}}`, `{"spec":{}}`, `{"f:spec":{"f:empty":{}}}`, ""},
		{"an object that tells of no managers", `{"spec":{"replicas":2,"list":[1]}}`, `{"spec":{"replicas":7,"list":[1,2]}}`, "", "/spec/list /spec/replicas"},
		{"a field of another kind", `{"spec":{"a":{"b":1},"c":[1]}}`, `{"spec":{"a":1,"c":{}}}`, `{"f:spec":{"f:other":{}}}`, "/spec/a /spec/c"},
		{"a key with a slash", `{"metadata":{"annotations":{"a/b":"x"}}}`, `{"metadata":{}}`, `{}`, "/metadata/annotations"},
		{"numbers of two kinds", `{"spec":{"n":1}}`, `{"spec":{"n":1.0}}`, `{"f:spec":{"f:other":{}}}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			live := tree(t, c.live)
			if c.ours != "" {
				meta, _ := live["metadata"].(map[string]any)
				if meta == nil {
					meta = map[string]any{}
					live["metadata"] = meta
				}
				meta["managedFields"] = []any{map[string]any{"manager": inventory.FieldManager, "operation": "Apply", "fieldsV1": tree(t, c.ours)}}
			}
			if got := strings.Join(inventory.Lost(tree(t, c.applied), live), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSecretsAreComparedAsTheyAreStored(t *testing.T) {
	secret := tree(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"creationTimestamp":null},"data":{"a":"QQ=="},"stringData":{"b":"B"},"status":{}}`)
	if err := inventory.Normalize(secret); err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(secret)
	if string(b) != `{"apiVersion":"v1","data":{"a":"QQ==","b":"Qg=="},"kind":"Secret","metadata":{}}` {
		t.Errorf("%s", b)
	}
	for _, bad := range []string{`{"apiVersion":"v1","kind":"Secret","stringData":{"b":{"hunter2":1}}}`, `{"apiVersion":"v1","kind":"Secret","stringData":["hunter2"]}`, `{"apiVersion":"v1","kind":"Secret","data":"hunter2","stringData":{}}`} {
		if err := inventory.Normalize(tree(t, bad)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func tree(t testing.TB, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", s, err))
	}
	return m
}

func FuzzLost(f *testing.F) {
	f.Add(`{"a":[{"name":"x"}]}`, `{"a":[]}`, `{"f:a":{"k:{\"name\":\"x\"}":{}}}`)
	f.Fuzz(func(t *testing.T, applied, live, ours string) {
		var a, l, o map[string]any
		if json.Unmarshal([]byte(applied), &a) != nil || json.Unmarshal([]byte(live), &l) != nil || json.Unmarshal([]byte(ours), &o) != nil {
			return
		}
		if lost := inventory.Lost(a, a); len(lost) != 0 {
			t.Errorf("an object lacks %q of itself", lost)
		}
		if l == nil {
			return
		}
		l["metadata"] = map[string]any{"managedFields": []any{map[string]any{"manager": inventory.FieldManager, "operation": "Apply", "fieldsV1": o}}}
		_ = inventory.Lost(a, l)
	})
}
