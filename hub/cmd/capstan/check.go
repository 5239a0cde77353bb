package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

type checkFlags struct {
	listing
	revision string
	wait     time.Duration
}

func newCheck(s *shell) *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "check [APP]",
		Short: "Tell whether clusters are as Git wants them",
		Long: `Tell whether apps are as Git wants them on the clusters asked for: synced and
healthy, nothing waiting or held, no cluster silent; with --revision, at that commit.
What is not is listed. The exit code is 0 where all is, 1 where something
differs, 3 where it can't be told.`,
		Example: `  capstan check
  capstan check guestbook -l env=prod
  capstan check shop/guestbook --revision $(git rev-parse HEAD) --wait 5m   # in a pipeline`,
		ValidArgsFunction: s.completeApp,
		Args:              atMost("APP"),
		RunE: func(c *cobra.Command, args []string) error {
			differs, err := s.check(c.Context(), args, &f)
			switch {
			case err != nil:
				return exitError{exitDiffFailed, err}
			case differs:
				return exitError{code: 1}
			}
			return nil
		},
	}
	f.where.addFlags(c, s)
	addFormat(c, &f.format, formatWide, formatJSON, formatYAML, formatName)
	c.Flags().StringVar(&f.revision, "revision", "", "the commit that is wanted, or 7 digits or more of its beginning")
	c.Flags().DurationVar(&f.wait, "wait", 0, "how long to wait until all is well")
	return c
}

func (s *shell) check(ctx context.Context, args []string, f *checkFlags) (differs bool, err error) {
	if err := (fleet.AppFilter{Revision: f.revision}).Validate(); err != nil {
		return false, usageError{err}
	}
	h, err := s.hub()
	if err != nil {
		return false, err
	}
	filter, err := f.appFilter(ctx, h, args)
	if err != nil {
		return false, err
	}
	var wrong []fleet.AppStatus
	look := func() (bool, error) {
		apps, err := h.Apps(ctx, filter)
		wrong = nil
		for _, a := range apps {
			if !well(a, f.revision) {
				wrong = append(wrong, a)
			}
		}
		if err == nil && len(apps) == 0 {
			err = fleet.NotFound("there is no app%s to check", f.phrase())
		}
		return len(wrong) == 0, err
	}
	if err := s.await(ctx, h, f.wait, look); err != nil {
		return false, err
	}
	if len(wrong) == 0 {
		if f.format == formatTable || f.format == formatWide {
			s.say("all is as Git wants it")
			return false, nil
		}
	}
	p := &printer[fleet.AppStatus]{s: s, t: appTable(), f: f.format}
	return len(wrong) > 0, p.print(wrong, false)
}

// well tells whether an app is as Git wants it.
func well(a fleet.AppStatus, revision string) bool {
	return !a.Stale && a.Sync == fleet.Synced && (a.Health == fleet.Healthy || a.Health == fleet.Suspended) && a.Pending == nil && !a.IsHeld() &&
		(revision == "" || strings.HasPrefix(a.Revision.Commit(), revision))
}
