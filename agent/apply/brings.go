package apply

import (
	"encoding/json"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// brings is what some objects stand on that comes with others: while those are not
// there, the API server knows nothing to say of these.
type brings struct {
	namespaces map[string]bool
	roles      map[fleet.ObjectRef]bool
}

func broughtBy(objects []unit.Object) brings {
	b := brings{namespaces: map[string]bool{}, roles: map[fleet.ObjectRef]bool{}}
	for _, o := range objects {
		switch {
		case isNamespace(o.Ref):
			b.namespaces[o.Ref.Name] = true
		case isRole(o.Ref):
			b.roles[versionless(o.Ref)] = true
		}
	}
	return b
}

// namespace tells that an object's namespace is among them.
func (b brings) namespace(o unit.Object) bool { return b.namespaces[o.Ref.Namespace] }

// role tells that the role is among them that an object binds somebody to.
func (b brings) role(o unit.Object) bool {
	if o.Ref.Group != rbac || o.Ref.Kind != "ClusterRoleBinding" && o.Ref.Kind != "RoleBinding" {
		return false
	}
	var binding struct {
		RoleRef struct{ Kind, Name string } `json:"roleRef"`
	}
	if err := json.Unmarshal(o.JSON, &binding); err != nil {
		return false // the API server says what is wrong with it
	}
	ref := fleet.ObjectRef{Group: rbac, Kind: binding.RoleRef.Kind, Name: binding.RoleRef.Name}
	if ref.Kind == "Role" {
		ref.Namespace = o.Ref.Namespace
	}
	return b.roles[ref]
}

const rbac = "rbac.authorization.k8s.io"

func isRole(r fleet.ObjectRef) bool {
	return r.Group == rbac && (r.Kind == "ClusterRole" || r.Kind == "Role")
}
