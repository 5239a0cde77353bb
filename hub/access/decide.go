package access

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Action is what somebody wants to do.
type Action string

const (
	See     Action = "see"
	Sync    Action = "sync"
	Hold    Action = "suspend, resume or roll back"
	Approve Action = "approve" // rejecting too
	Label   Action = "label"
	Join    Action = "join"
	Remove  Action = "remove"
	Manage  Action = "manage tokens"
	Push    Action = "tell of pushes"
)

var may = map[fleet.Role][]Action{
	fleet.RoleViewer:   {See},
	fleet.RoleOperator: {See, Sync, Hold},
	fleet.RoleApprover: {See, Approve},
	fleet.RoleAdmin:    {See, Sync, Hold, Approve, Label, Join, Remove, Manage, Push},
	fleet.RoleHook:     {Push},
}

// Resource is what an action is about: an app on a cluster, a cluster, or, with
// nothing set, the fleet as a whole.
type Resource struct {
	Cluster string
	Labels  map[string]string // that select there; nil for a cluster that is not known
	App     fleet.AppName
}

// Fleet is the fleet as a whole.
var Fleet = Resource{}

func (r Resource) String() string {
	switch {
	case r.Cluster == "":
		return "the whole fleet"
	case r.App == fleet.AppName{}:
		return "cluster " + r.Cluster
	}
	return fmt.Sprintf("%s on cluster %s", r.App, r.Cluster)
}

// Decision is yes, or no and why. The reason names nothing that is not in the
// question and in the asker's own grants.
type Decision struct {
	Allowed bool
	Reason  string
}

// Rights are what one identity may do.
type Rights struct {
	name   string
	grants []grant
}

type grant struct {
	fleet.Grant
	selector labels.Selector
}

// Decide answers whether an action on a resource is allowed.
func (r Rights) Decide(a Action, on Resource) Decision {
	able := false
	for _, g := range r.grants {
		if !g.gives(a) {
			continue
		}
		able = true
		if g.covers(a, on) {
			return Decision{Allowed: true}
		}
	}
	switch {
	case len(r.grants) == 0:
		return Decision{Reason: fmt.Sprintf("%q has no role here", r.name)}
	case !able:
		return Decision{Reason: fmt.Sprintf("%q has the role %s, which may not %s", r.name, r.roles(), a)}
	}
	return Decision{Reason: fmt.Sprintf("%q may not %s on %s: the roles that may are limited to %s", r.name, a, on, r.limits(a))}
}

// Everywhere tells whether an action is allowed on whatever there is.
func (r Rights) Everywhere(a Action) bool {
	return slices.ContainsFunc(r.grants, func(g grant) bool { return g.gives(a) && g.unlimited() })
}

// Whole tells whether an action is allowed on a cluster with every app there.
func (r Rights) Whole(a Action, cluster Resource) bool {
	return slices.ContainsFunc(r.grants, func(g grant) bool { return g.gives(a) && len(g.Apps) == 0 && g.covers(a, cluster) })
}

// Anywhere tells whether there may be something an action is allowed on.
func (r Rights) Anywhere(a Action) bool {
	return slices.ContainsFunc(r.grants, func(g grant) bool { return g.gives(a) })
}

// Grants lists what was found for the identity.
func (r Rights) Grants() []fleet.Grant {
	out := make([]fleet.Grant, len(r.grants))
	for i, g := range r.grants {
		out[i] = g.Grant
	}
	return out
}

func (g grant) gives(a Action) bool {
	return slices.ContainsFunc(g.Roles, func(role fleet.Role) bool { return slices.Contains(may[role], a) })
}

func (g grant) unlimited() bool { return g.selector.Empty() && len(g.Apps) == 0 }

func (g grant) covers(a Action, on Resource) bool {
	if g.unlimited() {
		return true
	}
	if on.Cluster == "" || on.Labels == nil || !g.selector.Matches(labels.Set(on.Labels)) {
		return false
	}
	if len(g.Apps) == 0 {
		return true
	}
	if on.App == (fleet.AppName{}) {
		return a == See // who may see an app sees the cluster it is on
	}
	return slices.ContainsFunc(g.Apps, func(p string) bool { return matchesApp(p, on.App) })
}

func matchesApp(pattern string, app fleet.AppName) bool {
	namespace, name, _ := strings.Cut(pattern, "/")
	return fleet.MatchStar(namespace, app.Namespace) && fleet.MatchStar(name, app.Name)
}

func (r Rights) roles() string {
	var all []string
	for _, g := range r.grants {
		for _, role := range g.Roles {
			all = append(all, string(role))
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

func (r Rights) limits(a Action) string {
	var all []string
	for _, g := range r.grants {
		if !g.gives(a) {
			continue
		}
		var parts []string
		if g.Clusters != "" {
			parts = append(parts, "clusters "+g.Clusters)
		}
		if len(g.Apps) > 0 {
			parts = append(parts, "apps "+strings.Join(g.Apps, ", "))
		}
		all = append(all, strings.Join(parts, " with "))
	}
	return strings.Join(all, "; or ")
}
