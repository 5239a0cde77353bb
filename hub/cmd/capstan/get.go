package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newGet(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:   "get",
		Short: "List clusters, apps, what waits for approval, and what changed",
		Example: `  capstan get clusters -l env=prod -o wide
  capstan get apps --cluster prod
  capstan get apps -w
  capstan get approvals
  capstan get events --since 24h`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	c.AddCommand(newGetClusters(s), newGetApps(s), newGetApprovals(s), newGetEvents(s), newGetChanges(s))
	return c
}

// listing is what the get commands share.
type listing struct {
	where
	format format
	watch  bool
}

func (l *listing) addFlags(c *cobra.Command, s *shell) {
	l.where.addFlags(c, s)
	addFormat(c, &l.format, formatWide, formatJSON, formatYAML, formatName)
	c.Flags().BoolVarP(&l.watch, "watch", "w", false, "go on, and print what changes")
}

// list prints what fetch gives, once or for as long as somebody watches.
func list[T any](ctx context.Context, s *shell, h hub, l *listing, t table[T], fetch func(context.Context) ([]T, error)) ([]T, error) {
	p := &printer[T]{s: s, t: t, f: l.format}
	if !l.watch {
		items, err := fetch(ctx)
		if err != nil {
			return nil, err
		}
		return items, p.print(items, false)
	}
	changes, err := h.Watch(ctx, "")
	if err != nil {
		return nil, err
	}
	// Ctrl-C is how one stops watching: no failure. The first word is of how
	// things are now.
	first := true
	for range changes { // closed when ctx ends
		items, err := fetch(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && (first || !errors.Is(err, fleet.ErrUnavailable)):
			return nil, err
		case err != nil:
			s.say("still watching: %s", err)
		default:
			if err := p.print(items, true); err != nil {
				return nil, err
			}
		}
		first = false
	}
	return nil, nil
}
