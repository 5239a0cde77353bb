package access

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Policy says who has which grants. The zero Policy gives nobody any: then only
// what a credential carries counts.
type Policy struct {
	bindings []binding
}

// file is the form in which people write a policy.
type file struct {
	Bindings []binding `json:"bindings"`
}

type binding struct {
	fleet.Grant
	Users  []string `json:"users,omitempty"`  // as the identity provider names them
	Groups []string `json:"groups,omitempty"` // likewise
	Tokens []string `json:"tokens,omitempty"` // names in the token file
}

// Parse reads a policy. The error is ErrInvalid and names the binding.
func Parse(path string, raw []byte) (Policy, error) {
	var f file
	if err := yaml.UnmarshalStrict(raw, &f); err != nil {
		return Policy{}, fleet.WithHint(fleet.Invalid("access: %s: %w", path, err),
			"it is a list under bindings: roles, users or groups or tokens, clusters, apps")
	}
	for i, b := range f.Bindings {
		if err := b.validate(); err != nil {
			return Policy{}, fmt.Errorf("access: %s: bindings[%d]: %w", path, i, err)
		}
	}
	return Policy{bindings: f.Bindings}, nil
}

func (b binding) validate() error {
	if len(b.Users)+len(b.Groups)+len(b.Tokens) == 0 {
		return fleet.WithHint(fleet.Invalid("it is bound to nobody"), "name users, groups or tokens")
	}
	for _, name := range slices.Concat(b.Users, b.Groups, b.Tokens) {
		if strings.TrimSpace(name) == "" {
			return fleet.Invalid("it is bound to an empty name")
		}
	}
	return ValidateGrant(b.Grant)
}

var roles = []fleet.Role{fleet.RoleViewer, fleet.RoleOperator, fleet.RoleApprover, fleet.RoleAdmin, fleet.RoleHook}

// ValidateRole accepts the roles there are. The error is ErrInvalid.
func ValidateRole(r fleet.Role) error {
	if slices.Contains(roles, r) {
		return nil
	}
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return fleet.Invalid("role %q is not one of %s", r, strings.Join(names, ", "))
}

// ValidateGrant checks a grant's form. The error is ErrInvalid.
func ValidateGrant(g fleet.Grant) error {
	if len(g.Roles) == 0 {
		return fleet.Invalid("it gives no role")
	}
	for _, r := range g.Roles {
		if err := ValidateRole(r); err != nil {
			return err
		}
	}
	if _, err := labels.Parse(g.Clusters); err != nil {
		return fleet.WithHint(fleet.Invalid("clusters %q is not a label selector: %w", g.Clusters, err),
			"write it as kubectl's: env=prod,tier!=edge")
	}
	if len(g.Apps) > maxPatterns {
		return fleet.Invalid("it names %d apps, at most %d are possible", len(g.Apps), maxPatterns)
	}
	for _, p := range g.Apps {
		if err := validatePattern(p); err != nil {
			return err
		}
	}
	return nil
}

const maxPatterns = 100

func validatePattern(p string) error {
	namespace, name, ok := strings.Cut(p, "/")
	if ok && validPart(namespace) && validPart(name) {
		return nil
	}
	return fleet.WithHint(fleet.Invalid("app pattern %q is not valid", p),
		"write it as namespace/name, with * for any letters: team-a/*, */web-*")
}

// validPart accepts a DNS label in which * may stand for letters.
func validPart(p string) bool {
	return p != "" && len(p) <= 63 && strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789-*") == ""
}

// Rights are what one identity may do: what its credential carries, and what
// the policy gives its name and groups.
func (p Policy) Rights(id fleet.Identity) (Rights, error) {
	grants := slices.Clone(id.Grants)
	for _, b := range p.bindings {
		if b.of(id) {
			grants = append(grants, b.Grant)
		}
	}
	r := Rights{name: id.Name}
	for _, g := range grants {
		selector, err := labels.Parse(g.Clusters)
		if err != nil { // checked when it was read: what can't be read grants nothing
			return Rights{}, fleet.Invalid("grant of %q: %w", id.Name, err)
		}
		r.grants = append(r.grants, grant{Grant: g, selector: selector})
	}
	return r, nil
}

// of tells whether a binding is for an identity. A token is never taken for a
// user of the same name, nor the reverse: who may choose the one must not
// become the other.
func (b binding) of(id fleet.Identity) bool {
	switch id.Via {
	case fleet.ViaToken:
		return slices.Contains(b.Tokens, id.Name)
	case fleet.ViaOIDC:
		return slices.Contains(b.Users, id.Name) ||
			slices.ContainsFunc(id.Groups, func(g string) bool { return slices.Contains(b.Groups, g) })
	}
	return false // a service token has what it was made with, and nothing else
}
