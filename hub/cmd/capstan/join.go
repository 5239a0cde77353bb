package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/manifests"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

type joinFlags struct {
	joinSource
	joinRights
	labels          []string
	assignable      []string
	requireApproval bool
	approvers       []string
	quorum          int
	allowedSigners  string
	mode, image     string
	ttl             time.Duration
}

func newJoin(s *shell) *cobra.Command {
	var f joinFlags
	c := &cobra.Command{
		Use:   "join NAME",
		Short: "Print what installs an agent, for kubectl apply",
		Long: `Make a one-time token for a new cluster, and print the manifests that install
its agent. Only YAML goes to stdout, so it can be piped into kubectl.

The hub supplies its address and the token. Everything the cluster is to trust
comes from here: the repository, the labels it declares, and whose approval it
asks for. The output holds the token and the repository's credentials: treat it
as a secret.`,
		Example: `  capstan join dev --assignable env --repo https://git.example.com/fleet.git --path clusters/fleet | kubectl apply -f -

  capstan join prod --label env=prod --repo https://git.example.com/fleet.git --path clusters/fleet \
    --git-username-file user --git-password-file token \
    --require-approval --approver alice@example.com --allowed-signers allowed_signers | kubectl --context prod apply -f -

  capstan join edge --repo ssh://git@git.example.com/fleet.git --path clusters/fleet --semver '>=1.2.0 <2.0.0' \
    --identity-file ./deploy-key --known-hosts ./known_hosts --mirror https://mirror.local/fleet.git \
    --verify-allowed-signers ./release_signers --verify-mode tag | kubectl --context edge apply -f -

  capstan join shared --repo https://git.example.com/fleet.git --path clusters/shared \
    --no-cluster-admin --impersonate shop/deployer --impersonate bank/deployer | kubectl --context shared apply -f -`,
		Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.join(c.Context(), args[0], f)
		},
	}
	f.addFlags(c)
	return c
}

func (f *joinFlags) addFlags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringArrayVar(&f.labels, "label", nil, "label KEY=VALUE that the cluster declares; can't be changed at the hub (repeatable)")
	flags.StringSliceVar(&f.assignable, "assignable", nil, "label key that may be assigned at the hub (repeatable)")
	f.joinSource.addFlags(flags)
	f.joinRights.addFlags(flags)
	flags.BoolVar(&f.requireApproval, "require-approval", false, "let nothing change there without an approval")
	flags.StringArrayVar(&f.approvers, "approver", nil, "who may approve, by a name of the allowed signers (repeatable)")
	flags.IntVar(&f.quorum, "quorum", 1, "how many of them must")
	flags.StringVar(&f.allowedSigners, "allowed-signers", "", "file with the approvers' SSH public keys (allowed_signers format)")
	flags.StringVar(&f.mode, "mode", string(manifests.Deployment), "deployment, or daemonset for control-plane and edge nodes")
	flags.StringVar(&f.image, "image", "", "image of the agent")
	flags.DurationVar(&f.ttl, "ttl", time.Hour, "how long the token can be used")
	// Fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(
		[]string{string(manifests.Deployment), string(manifests.DaemonSet)}, cobra.ShellCompDirectiveNoFileComp))
}

// join checks everything before it asks for a token: a token that was made for
// manifests that can't be rendered would lie around.
func (s *shell) join(ctx context.Context, name string, f joinFlags) error {
	install, err := f.install(name)
	if err != nil {
		return err
	}
	if _, err := install.render(); err != nil {
		return err
	}
	h, err := s.hub()
	if err != nil {
		return err
	}
	grant, err := h.Join(ctx, name, f.ttl)
	if err != nil {
		return err
	}
	install.token = grant.Token
	out, err := install.render()
	if err != nil {
		return err
	}
	if _, err := s.out.Write(out); err != nil {
		return err
	}
	s.remindOfRights(install)
	s.say("the token for cluster %s works once, until %s", name, grant.Expires.UTC().Format(time.RFC3339))
	s.next("capstan get clusters -w   # once the manifests are applied there")
	return nil
}

func (f *joinFlags) install(name string) (install, error) {
	in := install{mode: manifests.Mode(f.mode), image: f.image, trusted: map[string]string{}, secrets: map[string]string{}}
	if err := fleet.ValidateName("cluster", name); err != nil {
		return in, usageError{err}
	}
	declared, err := f.declared()
	if err != nil {
		return in, err
	}
	in.config = agentConfig{
		Cluster:   clusterConfig{Name: name, Labels: declared, AssignableLabels: f.assignable},
		Hub:       hubConfig{TokenFile: "/etc/capstan/join/token"},
		Namespace: namespace,
	}
	if f.ttl <= 0 {
		return in, usage("give a time like 1h", "--ttl must be more than nothing")
	}
	if err := f.addSource(&in); err != nil {
		return in, err
	}
	if err := f.addRights(&in); err != nil {
		return in, err
	}
	return in, f.addApproval(&in)
}

func (f *joinFlags) declared() (map[string]string, error) {
	declared, remove, err := parseLabelChange(f.labels)
	if err != nil {
		return nil, usageError{err}
	}
	if len(remove) > 0 {
		return nil, usage("write --label KEY=VALUE", "--label %s- takes away a label of a cluster that is new", remove[0])
	}
	for _, key := range f.assignable {
		if err := fleet.ValidateLabel(key, ""); err != nil {
			return nil, usageError{err}
		}
		if _, both := declared[key]; both {
			return nil, usage("declare it with --label, or leave it to the hub with --assignable",
				"label %q is declared and assignable", key)
		}
	}
	return declared, nil
}

func (f *joinFlags) addApproval(in *install) error {
	if !f.requireApproval {
		if len(f.approvers) > 0 || f.allowedSigners != "" {
			return usage("add --require-approval", "--approver and --allowed-signers say nothing without a rule")
		}
		return nil
	}
	if len(f.approvers) == 0 || f.allowedSigners == "" {
		return usage("say who: --approver NAME --allowed-signers FILE", "--require-approval needs approvers and their keys")
	}
	data, err := os.ReadFile(f.allowedSigners)
	if err != nil {
		return err
	}
	allowed, err := signing.ParseAllowedSigners(f.allowedSigners, data)
	if err != nil {
		return err
	}
	people := map[string]bool{}
	for _, a := range f.approvers {
		if !slices.Contains(allowed.Principals(), a) {
			return fleet.WithHint(fmt.Errorf("approver %q has no key in %s", a, f.allowedSigners),
				"add a line for them, or correct the name; it has: "+strings.Join(allowed.Principals(), ", "))
		}
		people[allowed.Person(a)] = true
	}
	if f.quorum < 1 || f.quorum > len(people) {
		return usage("name more approvers, or ask fewer", "--quorum is %d, and the approvers make %d", f.quorum, len(people))
	}
	in.allowedSigners = string(data)
	in.config.Approval = &approvalConfig{
		Rules:              []ruleConfig{{Apps: appsConfig{MatchNames: []string{"*/*"}}, Approvers: f.approvers, Quorum: f.quorum}},
		AllowedSignersFile: configDir + "/" + allowedSignersKey,
	}
	return nil
}

// shortDuration writes 1m0s as 60s: what people write themselves.
func shortDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	return d.String()
}
