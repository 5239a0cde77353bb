package apply

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// RefusedError says that whom a request was sent as has no right to it.
type RefusedError struct {
	App     fleet.AppName // that it was sent for
	Account string        // ServiceAccount that it was sent as; "": the agent itself

	User      string // who was refused, in the API server's words
	Verb      string
	Resource  string // deployments, deployments/scale
	Group     string
	Namespace string // "": the whole cluster

	Err error
}

func (e *RefusedError) Unwrap() error { return e.Err }

func (e *RefusedError) Error() string {
	account := e.App.Namespace + "/" + e.Account
	switch {
	case e.impersonation():
		return fmt.Sprintf("the agent may not act as ServiceAccount %s, which App %s is applied as", account, e.App)
	case e.Account != "":
		return fmt.Sprintf("ServiceAccount %s, which App %s is applied as, may not %s %s %s", account, e.App, e.Verb, e.resource(), e.where())
	}
	return fmt.Sprintf("the agent (%s) may not %s %s %s", e.User, e.Verb, e.resource(), e.where())
}

// impersonation tells that the agent may not act as the account.
func (e *RefusedError) impersonation() bool {
	return e.Account != "" && strings.HasPrefix(e.Verb, "impersonate")
}

// AllRefused tells that whatever failed was refused for want of a right, so that
// none of it can have come to be.
func AllRefused(err error) bool {
	switch e := err.(type) { //nolint:errorlint // every branch of it is looked at
	case nil:
		return false
	case *RefusedError:
		return true
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(one error) bool { return !AllRefused(one) })
	case interface{ Unwrap() error }:
		return AllRefused(e.Unwrap())
	}
	return false
}

// resource is as kubectl names it.
func (e *RefusedError) resource() string {
	resource, sub, deeper := strings.Cut(e.Resource, "/")
	if e.Group != "" {
		resource += "." + e.Group
	}
	if deeper {
		resource += "/" + sub
	}
	return resource
}

func (e *RefusedError) where() string {
	if e.Namespace == "" {
		return "in the whole cluster"
	}
	return "in namespace " + e.Namespace
}

// denied is how the API server says it, whoever authorises there.
var denied = regexp.MustCompile(`User "([^"]+)" cannot (\S+) resource "([^"]+)" in API group "([^"]*)" (?:in the namespace "([^"]+)"|at the cluster scope)`)

// refusal reads who was refused what; nil where an error says something else: a
// quota, a policy, a role that grants more than whoever makes it has.
func (a actor) refusal(err error) *RefusedError {
	if !apierrors.IsForbidden(err) {
		return nil
	}
	m := denied.FindStringSubmatch(err.Error())
	if m == nil {
		return nil
	}
	return &RefusedError{App: a.app, Account: a.account, User: m[1], Verb: m[2], Resource: m[3], Group: m[4], Namespace: m[5], Err: err}
}

// grant says how to let everything through that was refused in one try, for
// people to paste. "" where nothing was.
func grant(refused []*RefusedError) string {
	type role struct {
		subject, namespace, verbs string
		impersonated              string
	}
	resources := map[role][]string{}
	var order []role
	for _, e := range refused {
		r := role{subject: subject(e.User), namespace: e.Namespace, verbs: verbs(e)}
		what := e.resource()
		if e.impersonation() {
			r.impersonated, what = e.Account, "serviceaccounts --resource-name="+e.Account
		}
		if resources[r] == nil {
			order = append(order, r)
		}
		if !slices.Contains(resources[r], what) {
			resources[r] = append(resources[r], what)
		}
	}
	var out []string
	for _, r := range order {
		slices.Sort(resources[r])
		name := "capstan-" + strings.NewReplacer(":", "-", "/", "-").Replace(resources[r][0])
		kind, flag, in := "clusterrole", "--clusterrole", ""
		if r.impersonated != "" {
			name = "capstan-impersonate-" + r.impersonated
		}
		if r.namespace != "" {
			kind, flag, in = "role", "--role", "-n "+r.namespace+" "
		}
		out = append(out, fmt.Sprintf("kubectl %[1]screate %[2]s %[3]s --verb=%[4]s --resource=%[5]s && kubectl %[1]screate %[2]sbinding %[3]s %[6]s=%[3]s %[7]s",
			in, kind, name, r.verbs, strings.Join(resources[r], ","), flag, r.subject))
	}
	if len(out) == 0 {
		return ""
	}
	return "let it, if it is meant to: " + strings.Join(out, "; ")
}

// verbs are those that an app needs on what it brings, and not the one alone
// that was refused first.
func verbs(e *RefusedError) string {
	all := []string{"get", "create", "patch", "delete"}
	switch {
	case strings.HasPrefix(e.Verb, "impersonate"):
		return "impersonate"
	case e.Group == "rbac.authorization.k8s.io":
		all = append(all, "update") // the API server asks for it too, of roles and bindings
	case !slices.Contains(all, e.Verb):
		return e.Verb
	}
	return strings.Join(all, ",")
}

// subject names a user for kubectl create rolebinding.
func subject(user string) string {
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		return "--serviceaccount=" + account
	}
	return "--user=" + user
}

// granting puts the way out of all refusals among the errors into one hint.
func granting(errs []error) error {
	joined := errors.Join(errs...)
	var refused []*RefusedError
	for _, err := range errs {
		if r, ok := errors.AsType[*RefusedError](err); ok {
			refused = append(refused, r)
		}
	}
	if len(refused) < 2 {
		return joined
	}
	return fleet.WithHint(joined, grant(refused))
}
