package access_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/access"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const policy = `
bindings:
- roles: [viewer]
  groups: [everybody]
- roles: [operator, approver]
  groups: [team-a]
  users: [zoe@example.com]
  clusters: env=prod
  apps: ["team-a/*"]
- roles: [admin]
  users: [ada@example.com]
- roles: [admin]
  users: [dev@example.com]
  clusters: env=dev
- roles: [operator]
  tokens: [ci]
  apps: ["*/web-*-x"]
`

func parsed(t *testing.T) access.Policy {
	t.Helper()
	p, err := access.Parse("access.yaml", []byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	prod  = map[string]string{"env": "prod"}
	dev   = map[string]string{"env": "dev"}
	teamA = fleet.AppName{Namespace: "team-a", Name: "web"}
	teamB = fleet.AppName{Namespace: "team-b", Name: "web"}
	user  = func(name string, groups ...string) fleet.Identity {
		return fleet.Identity{Via: fleet.ViaOIDC, Name: name, Groups: groups}
	}
	onProd  = access.Resource{Cluster: "p", Labels: prod}
	onDev   = access.Resource{Cluster: "d", Labels: dev}
	unknown = access.Resource{Cluster: "nowhere"}
)

func with(r access.Resource, app fleet.AppName) access.Resource { r.App = app; return r }

func TestWhoMayDoWhatWhere(t *testing.T) {
	p := parsed(t)
	for _, c := range []struct {
		who  fleet.Identity
		does access.Action
		on   access.Resource
		want bool
		says string
	}{
		{user("bob", "everybody"), access.See, access.Fleet, true, ""},
		{user("bob", "everybody"), access.See, with(onProd, teamB), true, ""},
		{user("bob", "everybody"), access.Sync, with(onProd, teamB), false, "has the role viewer, which may not sync"},
		{user("bob"), access.See, access.Fleet, false, `"bob" has no role here`},
		{user("team-a"), access.See, access.Fleet, false, "no role"}, // a user named like a group

		{user("eve", "team-a"), access.Sync, with(onProd, teamA), true, ""},
		{user("eve", "team-a"), access.Approve, with(onProd, teamA), true, ""},
		{user("zoe@example.com"), access.Approve, with(onProd, teamA), true, ""},
		{user("eve", "team-a"), access.Approve, with(onDev, teamA), false, "limited to clusters env=prod with apps team-a/*"},
		{user("eve", "team-a"), access.Approve, with(onProd, teamB), false, "may not approve on team-b/web on cluster p"},
		{user("eve", "team-a"), access.Label, onProd, false, "may not label"},
		{user("eve", "team-a"), access.See, onProd, true, ""},
		{user("eve", "team-a"), access.See, onDev, false, "may not see on cluster d"},
		{user("eve", "team-a"), access.See, access.Fleet, false, "the whole fleet"},
		{user("eve", "team-a"), access.See, unknown, false, "cluster nowhere"},
		{user("eve", "team-a", "everybody"), access.See, onDev, true, ""}, // grants add up
		{user("eve", "team-a", "everybody"), access.Sync, with(onDev, teamA), false, "limited"},

		{user("ada@example.com"), access.Manage, access.Fleet, true, ""},
		{user("ada@example.com"), access.Remove, unknown, true, ""},
		{user("dev@example.com"), access.Label, onDev, true, ""},
		{user("dev@example.com"), access.Label, onProd, false, "limited to clusters env=dev"},
		{user("dev@example.com"), access.Join, access.Resource{Cluster: "new"}, false, "cluster new"},
		{user("dev@example.com"), access.Manage, access.Fleet, false, "whole fleet"},
		{user("dev@example.com"), access.Approve, with(onDev, teamB), true, ""},

		{fleet.Identity{Via: fleet.ViaToken, Name: "ci"}, access.Sync, with(onDev, fleet.AppName{Namespace: "n", Name: "web-1-x"}), true, ""},
		{fleet.Identity{Via: fleet.ViaToken, Name: "ci"}, access.Sync, with(onDev, fleet.AppName{Namespace: "n", Name: "web-1-y"}), false, "limited to apps"},
		{user("ci"), access.Sync, with(onDev, teamA), false, "no role"}, // a user named like a token
		{fleet.Identity{Via: fleet.ViaToken, Name: "ada@example.com"}, access.See, onDev, false, "no role"},
		{fleet.Identity{Via: fleet.ViaService, Name: "ci"}, access.Sync, with(onDev, teamA), false, "no role"},
		{fleet.Identity{Via: fleet.ViaService, Name: "x", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleHook}}}}, access.Push, access.Fleet, true, ""},
		{fleet.Identity{Via: fleet.ViaService, Name: "x", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleHook}}}}, access.See, access.Fleet, false, "hook"},
		{fleet.Identity{}, access.See, access.Fleet, false, "no role"},
	} {
		rights, err := p.Rights(c.who)
		if err != nil {
			t.Fatal(err)
		}
		got := rights.Decide(c.does, c.on)
		if got.Allowed != c.want || !strings.Contains(got.Reason, c.says) || !c.want && got.Reason == "" {
			t.Errorf("%s %s %s: %+v, want %t and %q", c.who.Name, c.does, c.on, got, c.want, c.says)
		}
	}
}

func TestEverywhereAndAnywhere(t *testing.T) {
	p := parsed(t)
	for name, c := range map[string]struct {
		who                  fleet.Identity
		everywhere, anywhere bool
	}{
		"admin":            {user("ada@example.com"), true, true},
		"a limited one":    {user("eve", "team-a"), false, true},
		"one without role": {user("nobody"), false, false},
	} {
		r, err := p.Rights(c.who)
		if err != nil || r.Everywhere(access.See) != c.everywhere || r.Anywhere(access.See) != c.anywhere {
			t.Errorf("%s: %v, %t, %t", name, err, r.Everywhere(access.See), r.Anywhere(access.See))
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, namespace, name string
		want                     bool
	}{
		{"a/b", "a", "b", true},
		{"a/b", "a", "bc", false},
		{"*/*", "a", "b", true},
		{"a*/b", "a", "b", true},
		{"a*c/b", "abc", "b", true},
		{"a*c/b", "ac", "b", true},
		{"a*a/b", "a", "b", false},
		{"*b*/x", "abc", "x", true},
		{"*b*b/x", "ab", "x", false},
		{"a/*", "b", "x", false},
	} {
		r, err := access.Policy{}.Rights(fleet.Identity{Name: "x", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleViewer}, Apps: []string{c.pattern}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Decide(access.See, with(onDev, fleet.AppName{Namespace: c.namespace, Name: c.name})).Allowed; got != c.want {
			t.Errorf("%s covers %s/%s: %t", c.pattern, c.namespace, c.name, got)
		}
	}
}

func TestAPolicyThatMakesNoSenseIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"no YAML":              {"{", "access.yaml"},
		"an unknown field":     {"bindings: [{role: viewer}]", "role"},
		"a field twice":        {"bindings: []\nbindings: []", "bindings"},
		"nobody":               {"bindings: [{roles: [viewer]}]", "bindings[0]: it is bound to nobody"},
		"an empty name":        {"bindings: [{roles: [viewer], users: ['']}]", "empty name"},
		"no role":              {"bindings: [{users: [a]}]", "no role"},
		"an unknown role":      {"bindings: [{roles: [viewer], users: [a]}, {roles: [owner], users: [a]}]", `bindings[1]: role "owner"`},
		"no selector":          {"bindings: [{roles: [viewer], users: [a], clusters: 'env in'}]", "label selector"},
		"no pattern":           {"bindings: [{roles: [viewer], users: [a], apps: [web]}]", `"web"`},
		"a pattern of regexps": {"bindings: [{roles: [viewer], users: [a], apps: ['a/(.*)']}]", "not valid"},
	} {
		if _, err := access.Parse("access.yaml", []byte(c.text)); !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add(policy, "team-a", "web")
	f.Fuzz(func(t *testing.T, text, namespace, name string) {
		p, err := access.Parse("f", []byte(text))
		if err != nil {
			return
		}
		r, err := p.Rights(fleet.Identity{Via: fleet.ViaService, Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if r.Decide(access.See, access.Resource{Cluster: "c", App: fleet.AppName{Namespace: namespace, Name: name}}).Allowed {
			t.Error("a policy let in one who is not in it")
		}
	})
}
