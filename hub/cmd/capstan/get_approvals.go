package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// waitingPlan is one plan that waits for people.
type waitingPlan struct {
	Cluster   string         `json:"cluster"`
	Namespace string         `json:"namespace"`
	App       string         `json:"app"`
	Plan      string         `json:"plan"`
	Action    fleet.Action   `json:"action"`
	Gate      fleet.Gate     `json:"gate"`
	Revision  fleet.Revision `json:"revision"`
	Digest    fleet.Digest   `json:"digest"`
	Summary   fleet.Summary  `json:"summary"`
	Have      int            `json:"have"`
	Need      int            `json:"need"`
	Since     time.Time      `json:"since"`
	Stale     bool           `json:"stale"`
	Message   string         `json:"message"`
}

func newGetApprovals(s *shell) *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use:     "approvals [APP]",
		Aliases: []string{"approval"},
		Short:   "List the plans that wait for people",
		Example: `  capstan get approvals
  capstan get approvals -l env=prod -o json`,
		ValidArgsFunction: s.completeApp,
		Args:              atMost("APP"),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			filter, err := l.appFilter(c.Context(), h, args)
			if err != nil {
				return err
			}
			items, err := list(c.Context(), s, h, &l, s.waitingTable(), func(ctx context.Context) ([]waitingPlan, error) {
				apps, err := h.Apps(ctx, filter)
				return waiting(apps), err
			})
			if err != nil {
				return err
			}
			if len(items) > 0 && (l.format == formatTable || l.format == formatWide) {
				s.next("capstan diff %s/%s --cluster %s", items[0].Namespace, items[0].App, items[0].Cluster)
			}
			return nil
		},
	}
	l.addFlags(c, s)
	return c
}

func waiting(apps []fleet.AppStatus) []waitingPlan {
	var out []waitingPlan
	for _, a := range apps {
		if p := a.Pending; p != nil {
			out = append(out, waitingPlan{
				Cluster: a.Cluster, Namespace: a.Namespace, App: a.App, Plan: p.Plan, Action: p.Action, Gate: p.Gate,
				Revision: p.Revision, Digest: p.Digest, Summary: p.Summary, Have: p.Have, Need: p.Need, Since: p.Since,
				Stale: a.Stale, Message: a.Message,
			})
		}
	}
	return out
}

func (s *shell) waitingTable() table[waitingPlan] {
	return table[waitingPlan]{
		what:    "plans that wait",
		columns: []string{"CLUSTER", "APP", "ACTION", "CHANGES", "APPROVALS", "SINCE", "REVISION", "MESSAGE"},
		wide:    []string{"PLAN", "DIGEST", "GATE"},
		row: func(w waitingPlan) []string {
			return []string{
				w.Cluster, w.Namespace + "/" + w.App, string(w.Action), summary(w.Summary), fmt.Sprintf("%d/%d", w.Have, w.Need),
				s.ago(w.Since), dash(w.Revision.Short()), dash(w.Message), w.Plan, dash(w.Digest.Short()), string(w.Gate),
			}
		},
		name: func(w waitingPlan) string { return w.Namespace + "/" + w.App },
		key:  func(w waitingPlan) string { return w.Cluster + "/" + w.Namespace + "/" + w.App },
	}
}

// summary is short: +2 ~1 -0.
func summary(s fleet.Summary) string {
	return fmt.Sprintf("+%d ~%d -%d", s.Create+s.Recreate, s.Update, s.Prune+s.Recreate)
}
