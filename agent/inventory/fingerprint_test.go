package inventory_test

import (
	"encoding/json"
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
)

const live = `{
  "apiVersion": "apps/v1", "kind": "Deployment",
  "metadata": {"name": "web", "labels": {"ours": "1", "theirs": "1"}, "managedFields": [
    {"manager": "capstan", "operation": "Apply", "fieldsV1": {
      "f:metadata": {"f:labels": {"f:ours": {}}},
      "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {},
        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}, "f:finalizers": {"v:\"x\"": {}}}}},
    {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {"f:replicas": {}}}}
  ]},
  "spec": {"replicas": 2, "finalizers": ["x"], "template": {"spec": {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}]}}},
  "status": {"replicas": 2}
}`

func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func at(m map[string]any, path ...string) map[string]any {
	for _, p := range path {
		m = m[p].(map[string]any)
	}
	return m
}

func container(m map[string]any) map[string]any {
	return at(m, "spec", "template", "spec")["containers"].([]any)[0].(map[string]any)
}

func addManager(m map[string]any, name, sub string) {
	meta := at(m, "metadata")
	meta["managedFields"] = append(meta["managedFields"].([]any), map[string]any{
		"manager": name, "operation": "Update", "subresource": sub, "fieldsV1": map[string]any{"f:spec": map[string]any{"f:paused": map[string]any{}}},
	})
}

func TestFingerprintMovesWithWhatIsOursAlone(t *testing.T) {
	key := []byte("key")
	before := inventory.Fingerprint(key, decode(t, live))
	for _, tt := range []struct {
		name   string
		change func(m map[string]any)
		moves  bool
	}{
		{"nothing", func(map[string]any) {}, false},
		{"a field of ours", func(m map[string]any) { at(m, "spec")["replicas"] = 7.0 }, true},
		{"a field of ours goes", func(m map[string]any) { delete(at(m, "spec"), "replicas") }, true},
		{"a field in a list item of ours", func(m map[string]any) { container(m)["image"] = "evil" }, true},
		{"an item of a set of ours goes", func(m map[string]any) { at(m, "spec")["finalizers"] = []any{} }, true},
		{"ownership of a field of ours", func(m map[string]any) {
			entry := at(m, "metadata")["managedFields"].([]any)[0].(map[string]any)
			delete(at(entry, "fieldsV1", "f:spec"), "f:replicas")
		}, true},
		{"a person adds a field", func(m map[string]any) { addManager(m, "kubectl-edit", "") }, true},
		{"a controller adds a field", func(m map[string]any) { addManager(m, "cert-manager", "") }, false},
		{"a person restarts the workload", func(m map[string]any) { addManager(m, "kubectl-rollout", "") }, false},
		{"status", func(m map[string]any) { at(m, "status")["replicas"] = 1.0 }, false},
		{"a label of somebody else", func(m map[string]any) { at(m, "metadata", "labels")["theirs"] = "2" }, false},
		{"another container", func(m map[string]any) {
			spec := at(m, "spec", "template", "spec")
			spec["containers"] = append([]any{map[string]any{"name": "sidecar"}}, spec["containers"].([]any)...)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := decode(t, live)
			tt.change(m)
			if got := inventory.Fingerprint(key, m) != before; got != tt.moves {
				t.Errorf("moved: %v, want %v", got, tt.moves)
			}
		})
	}
}

func TestFingerprintIsKeyed(t *testing.T) {
	m := decode(t, live)
	if inventory.Fingerprint([]byte("a"), m) == inventory.Fingerprint([]byte("b"), m) {
		t.Error("two keys give one fingerprint: a Secret's value could be guessed")
	}
}

func FuzzFingerprint(f *testing.F) {
	f.Add(live)
	f.Add(`{"metadata":{"managedFields":[{"manager":"capstan","operation":"Apply","fieldsV1":{"k:{":{},"v:":{},"f:a":{"k:{\"a\":1}":{}}}}]},"a":[1,{"a":1}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var m map[string]any
		if json.Unmarshal([]byte(text), &m) != nil {
			return
		}
		var again map[string]any
		if json.Unmarshal([]byte(text), &again) != nil {
			return
		}
		if inventory.Fingerprint(nil, m) != inventory.Fingerprint(nil, again) {
			t.Error("the same object has two fingerprints")
		}
	})
}
