package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

type approveFlags struct {
	where
	comment, key, approver string
	expires, wait          time.Duration
	yes                    bool
}

func newApprove(s *shell) *cobra.Command {
	var f approveFlags
	c := &cobra.Command{
		Use:   "approve APP",
		Short: "Approve the plan that waits, with your SSH key",
		Long: `Approve the plans that wait for an app on the named clusters: show them, and
sign a statement that lets exactly these plans through, once, until it expires.

The clusters check the signature themselves, against keys that are pinned
there; their answers are waited for, and a refusal is a failure. The key is the file in --key or CAPSTAN_KEY; without one, or where that
names a public key (.pub), the SSH agent signs.

Without a terminal nobody is asked to confirm.`,
		Example: `  capstan approve guestbook --cluster prod --comment "looks right"
  capstan approve shop/guestbook -l env=prod --key ~/.ssh/id_ed25519
  capstan approve guestbook --cluster eu1 --cluster eu2 --expires 2h --yes`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			return s.approve(c.Context(), args[0], f)
		},
	}
	f.addFlags(c, s)
	c.Flags().StringVar(&f.comment, "comment", "", "why, for those who read the history")
	c.Flags().StringVar(&f.key, "key", "", "SSH key file (default: CAPSTAN_KEY, or the SSH agent)")
	c.Flags().StringVar(&f.approver, "approver", "", "your name among the clusters' allowed signers (default: the key's comment)")
	c.Flags().DurationVar(&f.expires, "expires", 24*time.Hour, "how long the approval counts")
	c.Flags().DurationVar(&f.wait, "wait", 10*time.Second, "how long to wait for the clusters' answers; 0: not at all")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return c
}

func (s *shell) approve(ctx context.Context, arg string, f approveFlags) (err error) {
	if f.expires <= 0 || f.expires > fleet.MaxApprovalLife {
		return usage(fmt.Sprintf("give at most %s", span(fleet.MaxApprovalLife)), "--expires %s is not possible", f.expires)
	}
	h, app, err := s.choose(ctx, arg, f.where)
	if err != nil {
		return err
	}
	if err := f.need(app); err != nil {
		return err
	}
	plans, err := s.plansToApprove(ctx, h, app)
	if err != nil {
		return err
	}
	key, err := s.signingKey(ctx, f.key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	statement, err := s.statement(app.name, plans, key, f)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("Approve as %s, until %s?", statement.Approver, statement.Expires.Format(time.RFC3339))
	if err := s.confirm(question, f.yes); err != nil {
		return err
	}
	signed, err := signing.SignApproval(statement, key)
	if err != nil {
		return err
	}
	if err := h.Approve(ctx, signed); err != nil {
		return err
	}
	for _, t := range statement.Targets {
		s.printf("approved: %s on %s, plan %s, by %s (key %s)\n", app.name, t.Cluster, oneLine(t.Plan), statement.Approver, key.Fingerprint())
	}
	if err := s.answers(ctx, h, app, statement, f.wait); err != nil {
		return err
	}
	s.next("capstan get apps %s -w", app.name)
	return nil
}

// need: an approval, and a rejection, say for which clusters they are.
func (w where) need(app chosen) error {
	if w.named() {
		return nil
	}
	pending := app.pending()
	if len(pending) == 0 {
		return usage("capstan get approvals lists what waits", "no cluster is named, and nothing waits for %s", app.name)
	}
	return usage("it waits on "+strings.Join(pending, ", "), "say for which clusters: --cluster NAME, or -l SELECTOR")
}

// plansToApprove fetches and shows every plan. With a selector, clusters on
// which nothing waits are passed over; a cluster that is named must wait.
func (s *shell) plansToApprove(ctx context.Context, h hub, app chosen) ([]trustedPlan, error) {
	var plans []trustedPlan
	for _, a := range app.where {
		p, err := s.fetchPlan(ctx, h, a.Cluster, app.name)
		if nothingWaits(err) {
			s.say("%s on %s: nothing waits (%s)", app.name, a.Cluster, a.Sync)
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(plans) > 0 && p.Action != plans[0].Action {
			return nil, fleet.WithHint(fleet.Conflict("the plan on %s is to %s, the one on %s to %s",
				plans[0].Cluster, plans[0].Action, p.Cluster, p.Action), "approve them one by one")
		}
		if len(plans) > 0 {
			s.printf("\n")
		}
		if err := s.showPlan(p); err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	if len(plans) == 0 {
		return nil, fleet.WithHint(fleet.NotFound("nothing waits for %s there", app.name), "capstan get approvals lists what waits")
	}
	s.printf("\n")
	return plans, nil
}

// clockSkew is how far a cluster's clock may be behind ours.
const clockSkew = time.Minute

func (s *shell) statement(app fleet.AppName, plans []trustedPlan, key *signing.Key, f approveFlags) (fleet.Approval, error) {
	approver := cmp.Or(f.approver, key.Comment())
	if approver == "" {
		return fleet.Approval{}, usage("name yourself with --approver, as in the clusters' allowed signers",
			"the key %s has no comment that says whose it is", key.Fingerprint())
	}
	now := s.now().UTC().Truncate(time.Second)
	a := fleet.Approval{
		Action: plans[0].Action, App: app.String(), Approver: approver, Comment: f.comment,
		NotBefore: now.Add(-min(clockSkew, fleet.MaxApprovalLife-f.expires)), Expires: now.Add(f.expires),
	}
	for _, p := range plans {
		a.Targets = append(a.Targets, fleet.Target{ClusterUID: p.ClusterUID, Cluster: p.Cluster, From: p.From, To: p.To, Plan: p.ID})
	}
	slices.SortFunc(a.Targets, func(x, y fleet.Target) int { return strings.Compare(x.Cluster, y.Cluster) })
	return a, a.Validate()
}

// signingKey opens the file that is named, or asks the SSH agent.
func (s *shell) signingKey(ctx context.Context, path string) (*signing.Key, error) {
	path = cmp.Or(path, s.env("CAPSTAN_KEY"))
	socket := s.env("SSH_AUTH_SOCK")
	if path == "" {
		key, err := signing.AgentKey(ctx, socket, "")
		if err != nil {
			return nil, fleet.WithHint(fmt.Errorf("no key to sign with: %w", err),
				"name a private key file with --key or CAPSTAN_KEY, or a public one (.pub) that the SSH agent holds")
		}
		return key, nil
	}
	if strings.HasSuffix(path, ".pub") {
		public, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		return signing.AgentKey(ctx, socket, string(public))
	}
	var ask signing.Passphrase
	if s.typed {
		ask = s.passphrase
	}
	key, err := signing.LoadKey(path, ask)
	if errors.Is(err, fs.ErrNotExist) {
		err = fleet.WithHint(err, "name a private key file with --key or CAPSTAN_KEY; without one the SSH agent is asked")
	}
	return key, err
}
