package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newRollback(s *shell) *cobra.Command {
	var f holdFlags
	var to fleet.RollbackTo
	c := &cobra.Command{
		Use:   "rollback APP",
		Short: "Bring an app back to what it ran before, and keep it there",
		Long: `Bring an app back to a revision from its history on a cluster, and keep it there:
new commits do not move it until capstan resume, and drift is healed to it. It is
shown with the app who did it, since when and why.

The cluster goes back to nothing that it did not run before, and reads it from
Git anew. Where plans need approval, going back is a plan that waits like any
other. To go back for good, revert in Git.`,
		Example: `  capstan rollback guestbook --cluster dev                          # to the one before
  capstan rollback guestbook --cluster dev --to 1a2b3c4 --reason "checkout fails"
  capstan rollback guestbook --cluster dev --steps 2
  capstan history guestbook --cluster dev                           # what there is to go back to`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			to.Why = f.reason
			return s.rollback(c.Context(), args[0], f, to)
		},
	}
	f.addFlags(c, s)
	c.Flags().StringVar(&f.reason, "reason", "", "why, for those who see it")
	c.Flags().StringVar(&to.Revision, "to", "", "a revision of its history, or 7 digits or more of its commit")
	c.Flags().IntVar(&to.Steps, "steps", 0, "how many revisions to go back (default 1)")
	return c
}

func (s *shell) rollback(ctx context.Context, arg string, f holdFlags, to fleet.RollbackTo) error {
	if err := to.Validate(); err != nil {
		return usageError{err}
	}
	h, app, err := s.choose(ctx, arg, f.where)
	if err != nil {
		return err
	}
	if !f.named() && len(app.where) > 1 {
		return usage("say for which clusters: --cluster NAME, or -l SELECTOR", "app %s is on %d clusters, each with a history of its own", app.name, len(app.where))
	}
	if err := s.confirmMany("Roll back", app, f.yes); err != nil {
		return err
	}
	var asked []string
	var failed error
	for _, a := range app.where {
		hold, err := h.Rollback(ctx, a.Cluster, app.name, to)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		s.printf("%s on %s: back to %s, from %s\n", app.name, a.Cluster, oneLine(hold.Revision.Short()), oneLine(dash(a.Revision.Short())))
		asked = append(asked, a.Cluster)
	}
	if len(asked) == 0 {
		return failed
	}
	waits := ""
	went := func(a fleet.AppStatus, to fleet.Hold) string {
		text := wentBack(a, to)
		if a.Pending != nil && text != "" {
			waits = a.Cluster
		}
		return text
	}
	if err := s.answersToHold(ctx, h, app, asked, fleet.HoldRollback, f.wait, went); err != nil {
		return errors.Join(failed, err)
	}
	if waits != "" {
		s.next("capstan diff %s --cluster %s", app.name, waits)
	} else {
		s.next("capstan get apps %s -w", app.name)
	}
	return failed
}

// wentBack tells how far a cluster has come that does what was asked; "" while
// it is on the way.
func wentBack(a fleet.AppStatus, to fleet.Hold) string {
	commit := to.Revision.Commit()
	switch {
	case a.Held(fleet.HoldSuspend) != nil:
		return "taken; it is suspended, and goes back when that is over"
	case a.Pending != nil && a.Pending.Revision.Commit() == commit:
		return "taken; waits for " + oneLine(string(a.Pending.Gate))
	case a.Pending == nil && a.Sync == fleet.Synced && a.Revision.Commit() == commit:
		return "back at " + oneLine(to.Revision.Short())
	case slices.Contains([]string{"SourceFailed", "ReadFailed", "RenderFailed", "ApplyFailed"}, a.Reason):
		return "taken; " + oneLine(a.Reason+": "+a.Message)
	}
	return ""
}
