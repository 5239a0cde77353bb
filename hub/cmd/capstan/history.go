package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// historyEntry is what `history -o json` lists.
type historyEntry struct {
	Cluster string `json:"cluster"`
	fleet.HistoryEntry
}

func newHistory(s *shell) *cobra.Command {
	var w where
	var f format
	c := &cobra.Command{
		Use:   "history APP",
		Short: "List what was applied of an app, newest first",
		Example: `  capstan history guestbook --cluster prod
  capstan history shop/guestbook -o json`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			items, _, err := eachCluster(c.Context(), s, args[0], w, hub.History, func(cluster string, e fleet.HistoryEntry) historyEntry {
				return historyEntry{cluster, e}
			})
			if err != nil {
				return err
			}
			p := &printer[historyEntry]{s: s, t: s.historyTable(), f: f}
			return p.print(items, false)
		},
	}
	w.addFlags(c, s)
	addFormat(c, &f, formatWide, formatJSON, formatYAML)
	return c
}

func (s *shell) historyTable() table[historyEntry] {
	return table[historyEntry]{
		what:    "history",
		columns: []string{"CLUSTER", "APPLIED", "REVISION", "CHANGES", "APPROVED BY"},
		wide:    []string{"DIGEST"},
		row: func(e historyEntry) []string {
			return []string{
				e.Cluster, s.ago(e.Applied) + " ago", dash(e.Revision.Short()), summary(e.Summary),
				dash(strings.Join(e.ApprovedBy, ", ")), dash(e.Digest.Short()),
			}
		},
	}
}

// eachCluster asks every cluster that has the app, and was asked for, and notes
// with each thing where it is.
func eachCluster[T, R any](
	ctx context.Context, s *shell, arg string, w where,
	ask func(hub, context.Context, string, fleet.AppName) ([]T, error), on func(cluster string, item T) R,
) ([]R, chosen, error) {
	h, app, err := s.choose(ctx, arg, w)
	if err != nil {
		return nil, chosen{}, err
	}
	var all []R
	var failed error
	for _, a := range app.where {
		items, err := ask(h, ctx, a.Cluster, app.name)
		if err != nil {
			// One silent cluster does not hide the others.
			s.say("%s on %s: %s", app.name, a.Cluster, err)
			failed = err
			continue
		}
		for _, item := range items {
			all = append(all, on(a.Cluster, item))
		}
	}
	if len(all) == 0 && failed != nil {
		return nil, app, failed
	}
	return all, app, nil
}
