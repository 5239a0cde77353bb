package apply_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/apply"
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

func TestWhatHoldsAnObjectSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		leaving apply.Leaving
		says    string
	}{
		"nothing that is known": {apply.Leaving{}, ""},
		"a finalizer":           {apply.Leaving{Finalizers: []string{"example.com/hold"}}, "see that it runs"},
		"what it owns":          {apply.Leaving{Finalizers: []string{"foregroundDeletion"}}, "what it owns goes first"},
		"what is in it":         {apply.Leaving{Remains: []string{"configmaps. has 1 resource instances"}}, "left in the namespace"},
		"an API that is away":   {apply.Leaving{Remains: []string{"Discovery failed for some groups"}, Unfound: true}, "APIService"},
		"objects of its kind": {apply.Leaving{
			Ref: item("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.com", "").Ref, Finalizers: []string{"customresourcecleanup.apiextensions.k8s.io"},
		}, "kubectl get widgets.example.com --all-namespaces"},
	} {
		if got := c.leaving.Hint(); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: says %q", name, got)
		}
	}
}
