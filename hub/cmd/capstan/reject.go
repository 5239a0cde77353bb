package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newReject(s *shell) *cobra.Command {
	var w where
	var comment string
	c := &cobra.Command{
		Use:   "reject APP",
		Short: "Say that a plan that waits is not wanted",
		Long: `Say that the plan that waits for an app on the named clusters is not wanted, and
why. It waits anyway, and is not applied; the rejection is shown to others. A
new commit makes a new plan.`,
		Example:           `  capstan reject guestbook --cluster prod --comment "three replicas are too few"`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			h, app, err := s.choose(c.Context(), args[0], w)
			if err != nil {
				return err
			}
			if err := w.need(app); err != nil {
				return err
			}
			if len(app.pending()) == 0 {
				return fleet.WithHint(fleet.NotFound("nothing waits for %s there", app.name), "capstan get approvals lists what waits")
			}
			var failed error
			for _, a := range app.where {
				if a.Pending == nil {
					s.say("%s on %s: nothing waits (%s)", app.name, a.Cluster, a.Sync)
					continue
				}
				if err := h.Reject(c.Context(), a.Cluster, app.name, a.Pending.Plan, comment); err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				s.printf("rejected: %s on %s, plan %s\n", app.name, a.Cluster, oneLine(a.Pending.Plan))
			}
			if failed == nil {
				s.next("capstan get approvals")
			}
			return failed
		},
	}
	w.addFlags(c, s)
	c.Flags().StringVar(&comment, "comment", "", "why, for those who read it")
	return c
}
