package inventory_test

import (
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestWhichDifferencesAreLeftToOthers(t *testing.T) {
	web := fleet.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "web"}
	hook := fleet.ObjectRef{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration", Name: "hook"}
	for _, c := range []struct {
		name  string
		rules []inventory.Rule
		ref   fleet.ObjectRef
		path  string
		by    string
		want  bool
	}{
		{"an autoscaler's replicas", nil, web, "/spec/replicas", "kube-controller-manager", true},
		{"a person's replicas", nil, web, "/spec/replicas", "kubectl", false},
		{"somebody else's replicas", nil, web, "/spec/replicas", "argocd-controller", false},
		{"an injected CA", nil, hook, "/webhooks/0/clientConfig/caBundle", "cainjector", true},
		{"an injected CA of an object that does not tell", nil, hook, "/webhooks/0/clientConfig/caBundle", "", true},
		{"a CA that a person put there", nil, hook, "/webhooks/0/clientConfig/caBundle", "kubectl-edit", false},
		{"the webhook's rules", nil, hook, "/webhooks/0/rules", "cainjector", false},
		{"a pointer of the app's", []inventory.Rule{{Pointers: []string{"/spec/template/spec/containers/0/image"}}}, web, "/spec/template/spec/containers/0/image", "kubectl-set", true},
		{"what is below a pointer", []inventory.Rule{{Pointers: []string{"/metadata/annotations"}}}, web, "/metadata/annotations/a~1b", "x", true},
		{"what begins like a pointer", []inventory.Rule{{Pointers: []string{"/spec/rep"}}}, web, "/spec/replicas", "x", false},
		{"what is above a pointer", []inventory.Rule{{Pointers: []string{"/spec/template/metadata"}}}, web, "/spec/template", "x", false},
		{"any of a list", []inventory.Rule{{Pointers: []string{"/spec/template/spec/containers/*/resources"}}}, web, "/spec/template/spec/containers/3/resources/limits/cpu", "x", true},
		{"a manager", []inventory.Rule{{Managers: []string{"vpa"}}}, web, "/spec/x", "vpa", true},
		{"another manager", []inventory.Rule{{Managers: []string{"vpa"}}}, web, "/spec/x", "hpa", false},
		{"both, and one of them", []inventory.Rule{{Managers: []string{"vpa"}, Pointers: []string{"/spec/y"}}}, web, "/spec/x", "vpa", false},
		{"an object by kind and name", []inventory.Rule{{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web", Managers: []string{"vpa"}}}, web, "/spec/x", "vpa", true},
		{"an object of another name", []inventory.Rule{{Kind: "Deployment", Name: "api", Managers: []string{"vpa"}}}, web, "/spec/x", "vpa", false},
		{"an object of another group", []inventory.Rule{{Group: "extensions", Kind: "Deployment", Managers: []string{"vpa"}}}, web, "/spec/x", "vpa", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := inventory.Yields(c.rules, c.ref, inventory.Difference{Path: c.path, Manager: c.by}); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}
