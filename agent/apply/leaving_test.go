package apply_test

import (
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
)

// What a Namespace has left is what holds it, and it says so itself.
func TestWhatHoldsANamespaceIsNamed(t *testing.T) {
	api, client := serveKept(t)
	const space = "/api/v1/namespaces/shop"
	api.put(space, "n", web, inventory.FieldManager)
	api.held[space] = true
	remove := func(want string) {
		t.Helper()
		_, still, err := client.Remove(t.Context(), web, []inventory.Item{item("", "Namespace", "", "shop", "n")})
		if err != nil || len(still) != 1 || still[0].String() != want {
			t.Errorf("still there: %v, %v\nwant %s", still, err, want)
		}
	}
	says := func(conditions ...any) {
		api.mu.Lock()
		defer api.mu.Unlock()
		api.objects[space]["status"] = map[string]any{"phase": "Terminating", "conditions": conditions}
	}
	condition := func(kind, status, message string) map[string]any {
		return map[string]any{"type": kind, "status": status, "message": message}
	}

	remove("Namespace shop (finalizers: [foregroundDeletion])")
	says(condition("NamespaceDeletionContentFailure", "False", "All content successfully deleted, may be waiting on finalization"),
		condition("NamespaceContentRemaining", "True", "Some resources are remaining: configmaps. has 1 resource instances"),
		condition("NamespaceFinalizersRemaining", "True", "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"))
	remove("Namespace shop (finalizers: [foregroundDeletion]; Some resources are remaining: configmaps. has 1 resource instances; " +
		"Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances)")
	says("garbage", condition("NamespaceDeletionDiscoveryFailure", "True", ""), condition("Ready", "True", "of somebody else's"))
	remove("Namespace shop (finalizers: [foregroundDeletion])")
}
