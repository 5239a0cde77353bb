package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

type diffFlags struct {
	where
	exitCode bool
	format   format
}

func newDiff(s *shell) *cobra.Command {
	var f diffFlags
	c := &cobra.Command{
		Use:   "diff APP",
		Short: "Show what the plan that waits would change",
		Long: `Show what the plan that waits for an app would change on a cluster, object by
object. Values of Secrets are never shown.

The plan comes from the cluster's agent. Its signature is checked, and its
digest is computed anew from what is shown, so that no hub in between can alter
it. The agent's key is pinned when it is first seen, in CAPSTAN_KNOWN_AGENTS.`,
		Example: `  capstan diff guestbook --cluster prod
  capstan diff shop/guestbook -l env=prod
  capstan diff guestbook --cluster prod --exit-code   # 0: nothing waits, 1: something does, 3: failed`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			waits, err := s.diff(c.Context(), args[0], f)
			switch {
			case err != nil && f.exitCode:
				return exitError{exitDiffFailed, err}
			case err == nil && waits && f.exitCode:
				return exitError{code: 1}
			}
			return err
		},
	}
	f.addFlags(c, s)
	c.Flags().BoolVar(&f.exitCode, "exit-code", false, "exit with 1 when something waits, and with 3 on failure")
	addFormat(c, &f.format, formatJSON, formatYAML)
	return c
}

func (s *shell) diff(ctx context.Context, arg string, f diffFlags) (waits bool, err error) {
	h, app, err := s.choose(ctx, arg, f.where)
	if err != nil {
		return false, err
	}
	plans := []fleet.Plan{}
	for _, a := range app.where {
		if a.Pending == nil {
			s.say("%s on %s: nothing waits (%s at %s)", app.name, a.Cluster, a.Sync, dash(a.Revision.Short()))
			continue
		}
		p, err := s.fetchPlan(ctx, h, a.Cluster, app.name)
		if nothingWaits(err) {
			s.say("%s on %s: nothing waits any more", app.name, a.Cluster)
			continue
		}
		if err != nil {
			return false, err
		}
		if f.format == formatTable {
			if len(plans) > 0 {
				s.printf("\n")
			}
			if err := s.showPlan(p); err != nil {
				return false, err
			}
		}
		plans = append(plans, p.Plan)
	}
	if f.format != formatTable {
		return len(plans) > 0, s.encode(client.List[fleet.Plan]{Items: plans}, f.format)
	}
	if len(plans) > 0 {
		s.next("capstan approve %s --cluster %s", app.name, plans[0].Cluster)
	}
	return len(plans) > 0, nil
}
