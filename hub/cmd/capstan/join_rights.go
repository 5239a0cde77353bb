package main

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/capstan-gitops/capstan/manifests"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// joinRights says what the agent may do in the cluster, and as whom.
type joinRights struct {
	noClusterAdmin bool
	impersonate    []string
	watch          []string
	defaultAccount string
	rootAccount    string
}

func (f *joinRights) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&f.noClusterAdmin, "no-cluster-admin", false, "let the agent act on what apps hold only as the ServiceAccounts given with --impersonate; every App must name one")
	flags.StringArrayVar(&f.impersonate, "impersonate", nil, "NAMESPACE/NAME of a ServiceAccount that the agent may act as, for Apps with spec.serviceAccountName (repeatable)")
	flags.StringVar(&f.defaultAccount, "default-service-account", "", "ServiceAccount, in the App's namespace, of Apps that name none")
	flags.StringVar(&f.rootAccount, "root-service-account", "", "ServiceAccount in "+namespace+" for what the root directory holds besides Apps")
	flags.StringArrayVar(&f.watch, "watch", nil, "with --no-cluster-admin: RESOURCE or RESOURCE.GROUP to watch besides the usual ones, as certificates.cert-manager.io (repeatable)")
}

// account is a ServiceAccount that the agent may act as.
type account struct{ namespace, name string }

// addRights fills in what the agent may do.
func (f *joinRights) addRights(in *install) error {
	if err := f.accounts(in); err != nil {
		return err
	}
	for flag, name := range map[string]string{"--default-service-account": f.defaultAccount, "--root-service-account": f.rootAccount} {
		if err := v1alpha1.ValidateServiceAccountName(name); name != "" && err != nil {
			return usage("give the name alone: its namespace is known", "%s: %v", flag, err)
		}
	}
	if f.rootAccount != "" {
		in.accounts = append(in.accounts, account{namespace, f.rootAccount})
	}
	switch {
	case slices.Contains(in.accounts, account{namespace, agentName}):
		return usage("make another ServiceAccount for it", "%s/%s is the agent itself", namespace, agentName)
	case f.noClusterAdmin && len(in.accounts) == 0:
		return usage("say whom it may act as: --impersonate NAMESPACE/NAME", "with --no-cluster-admin alone the agent could apply nothing")
	case !f.noClusterAdmin && len(f.watch) > 0:
		return usage("add --no-cluster-admin", "--watch says nothing where the agent may do everything")
	}
	for _, w := range f.watch {
		resource, group, _ := strings.Cut(w, ".")
		if err := fleet.ValidateName("resource", resource); err != nil {
			return usage("write it like certificates.cert-manager.io, in the plural and in lower case", "--watch: %v", err)
		}
		in.watch = append(in.watch, watched{group, resource})
	}
	in.noClusterAdmin = f.noClusterAdmin
	if f.noClusterAdmin || f.defaultAccount != "" || f.rootAccount != "" {
		in.config.ApplyAs = &applyAsConfig{Required: f.noClusterAdmin, Default: f.defaultAccount, Root: f.rootAccount}
	}
	return nil
}

func (f *joinRights) accounts(in *install) error {
	for _, text := range f.impersonate {
		ns, name, both := strings.Cut(text, "/")
		err := fleet.ValidateName("namespace", ns)
		if err == nil {
			err = v1alpha1.ValidateServiceAccountName(name)
		}
		if !both || err != nil {
			return usage("write it like shop/deployer", "--impersonate %q is not NAMESPACE/NAME of a ServiceAccount", text)
		}
		if a := (account{ns, name}); !slices.Contains(in.accounts, a) {
			in.accounts = append(in.accounts, a)
		}
	}
	return nil
}

// watched is a kind that the agent watches besides the usual ones.
type watched struct{ group, resource string }

// base is what the cluster gets whatever its configuration.
func (in install) base() ([]byte, error) {
	if in.noClusterAdmin {
		return manifests.AgentWithoutClusterAdmin(in.mode)
	}
	return manifests.Agent(in.mode)
}

// rights are the roles that base does not have.
func (in install) rights() []object {
	var out []object
	if len(in.watch) > 0 {
		var rules []any
		for _, w := range in.watch {
			rules = append(rules, object{"apiGroups": []any{w.group}, "resources": []any{w.resource}, "verbs": []any{"list", "watch"}})
		}
		out = append(out, granted("Cluster", "capstan-agent-watch-more", "", rules)...)
	}
	for _, a := range in.accounts {
		rules := []any{object{"apiGroups": []any{""}, "resources": []any{"serviceaccounts"}, "resourceNames": []any{a.name}, "verbs": []any{"impersonate"}}}
		out = append(out, granted("", "capstan-agent-impersonate-"+a.name, a.namespace, rules)...)
	}
	return out
}

// granted is a role, and its binding to the agent.
func granted(scope, name, in string, rules []any) []object {
	meta := func() object {
		m := object{"name": name, "labels": object{"app.kubernetes.io/name": agentName, "app.kubernetes.io/part-of": "capstan"}}
		if in != "" {
			m["namespace"] = in
		}
		return m
	}
	const group = "rbac.authorization.k8s.io"
	return []object{
		{"apiVersion": group + "/v1", "kind": scope + "Role", "metadata": meta(), "rules": rules},
		{
			"apiVersion": group + "/v1", "kind": scope + "RoleBinding", "metadata": meta(),
			"roleRef":  object{"apiGroup": group, "kind": scope + "Role", "name": name},
			"subjects": []any{object{"kind": "ServiceAccount", "name": agentName, "namespace": namespace}},
		},
	}
}

// remindOfRights says what the manifests leave to whoever applies them.
func (s *shell) remindOfRights(in install) {
	var spaces []string
	for _, a := range in.accounts {
		if a.namespace != namespace && !slices.Contains(spaces, a.namespace) {
			spaces = append(spaces, a.namespace)
		}
	}
	if len(spaces) > 0 {
		s.say("these namespaces must be there when it is applied: %s", strings.Join(spaces, ", "))
	}
	if in.noClusterAdmin {
		s.say("if the agent was installed there without --no-cluster-admin before, take away what it had: kubectl delete clusterrolebinding,clusterrole capstan-agent-apps")
	}
}
