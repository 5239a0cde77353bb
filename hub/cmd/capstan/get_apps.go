package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newGetApps(s *shell) *cobra.Command {
	var l listing
	var wanted fleet.AppFilter
	c := &cobra.Command{
		Use:     "apps [APP]",
		Aliases: []string{"app"},
		Short:   "List apps with their state on each cluster",
		Example: `  capstan get apps
  capstan get apps guestbook -w
  capstan get apps -l env=prod -o json
  capstan get apps --revision 1a2b3c4      # where does this commit run
  capstan get apps --image '*/nginx:1.25*'  # and this image`,
		ValidArgsFunction: s.completeApp,
		Args:              atMost("APP"),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			if err := wanted.Validate(); err != nil {
				return usageError{err}
			}
			filter, err := l.appFilter(c.Context(), h, args)
			if err != nil {
				return err
			}
			wanted.Selector, wanted.Clusters, wanted.Namespace, wanted.Name = filter.Selector, filter.Clusters, filter.Namespace, filter.Name
			filter = wanted
			items, err := list(c.Context(), s, h, &l, appTable(), func(ctx context.Context) ([]fleet.AppStatus, error) {
				return h.Apps(ctx, filter)
			})
			if err != nil {
				return err
			}
			if l.format == formatTable || l.format == formatWide {
				s.nextForApps(items)
			}
			return nil
		},
	}
	l.addFlags(c, s)
	c.Flags().StringVar(&wanted.Revision, "revision", "", "only where this commit is applied (7 digits of it are enough)")
	c.Flags().StringVar(&wanted.Image, "image", "", "only where this image runs; * is any part")
	c.Flags().StringVar((*string)(&wanted.Sync), "sync", "", "only Synced, OutOfSync, Pending or Unknown")
	c.Flags().StringVar((*string)(&wanted.Health), "health", "", "only Healthy, Suspended, Progressing, Missing, Degraded or Unknown")
	c.Flags().BoolVar(&wanted.Pending, "pending", false, "only where a plan waits")
	c.Flags().BoolVar(&wanted.Held, "held", false, "only where somebody suspended the app, or rolled it back")
	c.Flags().BoolVar(&wanted.Drifted, "drifted", false, "only where objects differ from what was applied")
	return c
}

// appFilter is for one app that exists, where one is named, or for all. Who
// watches may name a cluster that is still to come.
func (l *listing) appFilter(ctx context.Context, h hub, args []string) (fleet.AppFilter, error) {
	filter := fleet.AppFilter{Selector: l.selector, Clusters: l.clusters}
	if len(args) == 0 {
		if err := l.check(); err != nil || l.watch {
			return filter, err
		}
		return filter, l.checkKnown(ctx, h)
	}
	app, err := choose(ctx, h, args[0], l.where)
	if err != nil {
		return filter, err
	}
	filter.Namespace, filter.Name = app.name.Namespace, app.name.Name
	return filter, nil
}

func (s *shell) nextForApps(items []fleet.AppStatus) {
	for _, a := range items {
		if a.Pending != nil {
			s.next("capstan diff %s --cluster %s", a.Name(), a.Cluster)
			return
		}
	}
}

func appTable() table[fleet.AppStatus] {
	return table[fleet.AppStatus]{
		what:    "apps",
		columns: []string{"CLUSTER", "APP", "SYNC", "HEALTH", "REVISION", "PENDING", "MESSAGE"},
		wide:    []string{"DIGEST", "OBJECTS", "REASON", "DRIFT", "PATH", "IMAGES"},
		row: func(a fleet.AppStatus) []string {
			pending := ""
			if a.Pending != nil {
				pending = a.Pending.Revision.Short()
			}
			return []string{
				a.Cluster, a.Name().String(), string(a.Sync), string(a.Health), dash(a.Revision.Short()), dash(pending), dash(appMessage(a)),
				dash(a.Digest.Short()), strconv.Itoa(a.Objects), dash(a.Reason), dash(drift(a.Drift)), dash(a.Path), dash(strings.Join(a.Images, ", ")),
			}
		},
		name: func(a fleet.AppStatus) string { return a.Name().String() },
		key:  func(a fleet.AppStatus) string { return a.Cluster + "/" + a.Name().String() },
	}
}

func appMessage(a fleet.AppStatus) string {
	if a.Stale {
		return strings.TrimSuffix("stale: the cluster was not heard of; "+a.Message, "; ")
	}
	return a.Message
}

func drift(all []fleet.DriftSummary) string {
	var out []string
	for _, d := range all {
		out = append(out, d.Object.String())
	}
	return strings.Join(out, ", ")
}
