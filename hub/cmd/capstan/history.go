package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// onCluster says of which cluster a thing is that does not say so itself.
type onCluster[T any] struct {
	Cluster string `json:"cluster"`
	Item    T      `json:"-"`
}

// historyEntry is what `history -o json` lists.
type historyEntry struct {
	Cluster string `json:"cluster"`
	fleet.HistoryEntry
}

// treeObject is what `tree -o json` lists.
type treeObject struct {
	Cluster string `json:"cluster"`
	fleet.Object
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
			all, _, err := eachCluster(c.Context(), s, args[0], w, func(ctx context.Context, h hub, cluster string, app fleet.AppName) ([]fleet.HistoryEntry, error) {
				return h.History(ctx, cluster, app)
			})
			if err != nil {
				return err
			}
			items := []historyEntry{}
			for _, e := range all {
				items = append(items, historyEntry{e.Cluster, e.Item})
			}
			if f == formatJSON || f == formatYAML {
				return s.encode(client.List[historyEntry]{Items: items}, f)
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

// eachCluster asks every cluster that has the app, and was asked for.
func eachCluster[T any](
	ctx context.Context, s *shell, arg string, w where,
	ask func(context.Context, hub, string, fleet.AppName) ([]T, error),
) ([]onCluster[T], chosen, error) {
	h, err := s.hub()
	if err != nil {
		return nil, chosen{}, err
	}
	app, err := choose(ctx, h, arg, w)
	if err != nil {
		return nil, chosen{}, err
	}
	var all []onCluster[T]
	var failed error
	for _, a := range app.where {
		items, err := ask(ctx, h, a.Cluster, app.name)
		if err != nil {
			// One silent cluster does not hide the others.
			s.say("%s on %s: %s", app.name, a.Cluster, err)
			failed = err
			continue
		}
		for _, item := range items {
			all = append(all, onCluster[T]{a.Cluster, item})
		}
	}
	if len(all) == 0 && failed != nil {
		return nil, app, failed
	}
	return all, app, nil
}
