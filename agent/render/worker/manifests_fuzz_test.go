package worker_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/render/worker"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/unit/memtree"
)

func FuzzPlainManifests(f *testing.F) {
	f.Add("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n")
	f.Add("a.yaml", "a: &a [x]\nb: *a\n--- \n? [1]\n: 2\n")
	f.Add("a.json", `{"apiVersion":"v1","kind":"List","items":[{}]} {}`)
	f.Add("a.json", "\n{\"a\":")
	f.Fuzz(func(t *testing.T, name, content string) {
		if name != "a.json" {
			name = "a.yaml"
		}
		objects, message := worker.Manifests(newTreeOf(memtree.Files{name: content}))
		if message == "" && slices.ContainsFunc(objects, func(o unit.Object) bool { return !json.Valid(o.JSON) || o.Ref.Name == "" }) {
			t.Errorf("%q gave %v", content, objects)
		}
		if message != "" && !strings.HasPrefix(message, name) && !strings.HasPrefix(message, "the repository's root") {
			t.Errorf("%q names no file", message)
		}
	})
}

func newTreeOf(repo memtree.Files) (unit.Tree, unit.Hash) {
	t := memtree.New()
	return t, t.Add(repo)
}
