package inventory

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Rule says which differences are left to others. An empty field matches all;
// where pointers and managers are both given, both must match.
type Rule struct {
	Group, Kind, Namespace, Name string

	Pointers []string // JSON pointers (RFC 6901); "*" stands for any key or index
	Managers []string // field managers
}

// Difference is a field that is not as it was applied, and who changed it ("" if
// the object does not tell).
type Difference struct{ Path, Manager string }

// BuiltIn are differences that are nobody's mistake: an autoscaler sets replicas,
// and a controller puts a certificate where its API server looks for it.
var BuiltIn = []Rule{
	{Pointers: []string{"/spec/replicas"}, Managers: []string{"kube-controller-manager"}}, // which scales for the autoscaler
	{Group: "admissionregistration.k8s.io", Pointers: []string{"/webhooks/*/clientConfig/caBundle"}},
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Pointers: []string{"/spec/conversion/webhook/clientConfig/caBundle"}},
	{Group: "apiregistration.k8s.io", Kind: "APIService", Pointers: []string{"/spec/caBundle"}},
}

// Yields tells whether a difference is left to whoever made it. What people do
// with kubectl is never, unless a rule of the app names it.
func Yields(own []Rule, ref fleet.ObjectRef, d Difference) bool {
	matches := func(r Rule) bool { return r.matches(ref, d) }
	return slices.ContainsFunc(own, matches) || !IsPerson(d.Manager) && slices.ContainsFunc(BuiltIn, matches)
}

// Held lists the pointers of an app's rules at which others hold something: that
// they added it is no difference to what was applied, and it is theirs all the same.
func Held(own []Rule, ref fleet.ObjectRef, managers []metav1.ManagedFieldsEntry) []string {
	var held []string
	for _, m := range managers {
		if m.Manager == FieldManager || m.Subresource == "status" {
			continue
		}
		for _, r := range own {
			if !r.isAbout(ref) || len(r.Managers) > 0 && !slices.Contains(r.Managers, m.Manager) {
				continue
			}
			for _, p := range r.Pointers {
				if _, cut := apart(m.FieldsV1, []string{p}); cut != nil && !slices.Contains(held, p) {
					held = append(held, p)
				}
			}
		}
	}
	return held
}

func (r Rule) matches(ref fleet.ObjectRef, d Difference) bool {
	if !r.isAbout(ref) || len(r.Managers) > 0 && !slices.Contains(r.Managers, d.Manager) {
		return false
	}
	return len(r.Pointers) == 0 || slices.ContainsFunc(r.Pointers, func(p string) bool { return covers(p, d.Path) })
}

func (r Rule) isAbout(ref fleet.ObjectRef) bool {
	for _, pair := range [][2]string{{r.Group, ref.Group}, {r.Kind, ref.Kind}, {r.Namespace, ref.Namespace}, {r.Name, ref.Name}} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// covers tells whether a path is at a pointer, or below it.
func covers(pointer, path string) bool {
	want, got := strings.Split(pointer, "/"), strings.Split(path, "/")
	if len(got) < len(want) {
		return false
	}
	for i, step := range want {
		if step != "*" && step != got[i] {
			return false
		}
	}
	return true
}
