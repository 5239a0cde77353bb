package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// eventFlags narrow what is listed of the past.
type eventFlags struct {
	where
	since, until string
	actor, app   string
	actions      []string
	format       format
	watch        bool
}

// addListFlags says how a list is printed.
func (f *eventFlags) addListFlags(c *cobra.Command) {
	addFormat(c, &f.format, formatWide, formatJSON, formatYAML)
	c.Flags().BoolVarP(&f.watch, "watch", "w", false, "go on, and print what comes")
}

func (f *eventFlags) addFlags(c *cobra.Command, s *shell, since string) {
	f.where.addFlags(c, s)
	c.Flags().StringVar(&f.since, "since", since, "from this time on: 2026-03-14T09:00:00Z, or how long ago: 24h, 7d")
	c.Flags().StringVar(&f.until, "until", "", "before this time, written likewise (default now)")
	c.Flags().StringVar(&f.actor, "actor", "", "only by this one")
	c.Flags().StringVar(&f.app, "app", "", "only of this app: namespace/name")
	c.Flags().StringSliceVar(&f.actions, "action", nil, "only this action, for instance label, approve or applied (repeatable)")
}

// filter resolves what was given; a selector becomes the clusters it means now.
func (f *eventFlags) filter(ctx context.Context, s *shell, h hub) (fleet.EventFilter, error) {
	out := fleet.EventFilter{Actor: f.actor, App: f.app, Actions: f.actions, Clusters: f.clusters, Limit: fleet.MaxEvents}
	if err := f.check(); err != nil {
		return out, err
	}
	if f.watch && f.until != "" {
		return out, usage("leave one of them out", "--watch does not end, and --until does")
	}
	var err error
	if out.Since, err = s.moment("--since", f.since); err != nil {
		return out, err
	}
	if out.Until, err = s.moment("--until", f.until); err != nil {
		return out, err
	}
	if err := out.Validate(); err != nil {
		return out, usageError{err}
	}
	if f.selector == "" {
		return out, f.checkKnown(ctx, h)
	}
	found, err := h.Clusters(ctx, fleet.ClusterFilter{Selector: f.selector, Names: f.clusters})
	if err != nil {
		return out, err
	}
	if len(found) == 0 {
		return out, fleet.NotFound("there is no cluster%s", f.phrase())
	}
	out.Clusters = uniq(found, func(c fleet.Cluster) string { return c.Cluster })
	return out, nil
}

// moment reads a time, or how long ago it was; days may be counted too.
func (s *shell) moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	hours := text
	if days, ok := strings.CutSuffix(text, "d"); ok {
		hours = days + "h"
	}
	d, err := time.ParseDuration(hours)
	if hours != text {
		d *= 24
	}
	if err != nil || d < 0 {
		return time.Time{}, usage("write it like 2026-03-14T09:00:00Z, or 24h or 7d for how long ago", "%s %q is not a time", flag, text)
	}
	return s.now().Add(-d), nil
}

// pages calls each with every page of events.
func pages(
	ctx context.Context, f fleet.EventFilter,
	list func(context.Context, fleet.EventFilter) (fleet.EventPage, error), each func([]fleet.Event) error,
) error {
	for {
		page, err := list(ctx, f)
		if err != nil {
			return err
		}
		if err := each(page.Items); err != nil {
			return err
		}
		if f.Continue = page.Continue; f.Continue == "" {
			return nil
		}
	}
}

func newGetEvents(s *shell) *cobra.Command {
	var f eventFlags
	c := &cobra.Command{
		Use:     "events",
		Aliases: []string{"event"},
		Short:   "List who changed what at the hub, oldest first",
		Example: `  capstan get events --since 24h
  capstan get events --cluster prod --actor jane@example.com
  capstan get events -w --action approve,reject
  capstan get events --action approve --since 2026-03-01T00:00:00Z --until 2026-04-01T00:00:00Z -o json`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			return s.listEvents(c.Context(), h, &f, h.Events)
		},
	}
	f.addFlags(c, s, "7d")
	f.addListFlags(c)
	return c
}

func newGetChanges(s *shell) *cobra.Command {
	var f eventFlags
	c := &cobra.Command{
		Use:     "changes",
		Aliases: []string{"change"},
		Short:   "List what changed on clusters, and what people did to them, oldest first",
		Long: `List what changed on clusters: revisions that were applied, apps that left, drift
that was seen; and what people did to those clusters at the hub. Of each cluster
the hub keeps the newest hundred changes.`,
		Example: `  capstan get changes --cluster prod --since 2026-03-14T09:00:00Z --until 2026-03-14T10:00:00Z
  capstan get changes --action drifted --since 7d
  capstan get changes -w --since 0s
  capstan get changes -l env=prod --app shop/guestbook`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			return s.listEvents(c.Context(), h, &f, h.Changes, onClusters(h.Events))
		},
	}
	f.addFlags(c, s, "24h")
	f.addListFlags(c)
	return c
}

type eventList func(context.Context, fleet.EventFilter) (fleet.EventPage, error)

// onClusters leaves out what concerns no cluster.
func onClusters(list eventList) eventList {
	return func(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
		page, err := list(ctx, f)
		page.Items = slices.DeleteFunc(page.Items, func(e fleet.Event) bool { return e.Cluster == "" })
		return page, err
	}
}

// listEvents prints the events of several lists by their time, once or for as
// long as somebody watches.
func (s *shell) listEvents(ctx context.Context, h hub, f *eventFlags, lists ...eventList) error {
	filter, err := f.filter(ctx, s, h)
	if err != nil {
		return err
	}
	var all []*follower
	for _, list := range lists {
		all = append(all, &follower{list: list, from: filter})
	}
	p := &printer[fleet.Event]{s: s, f: f.format, t: eventTable()}
	if f.watch {
		return s.watchEvents(ctx, h, all, p)
	}
	items, err := newEvents(ctx, all)
	if err != nil {
		return err
	}
	return p.write(items, false)
}

// follower reads a list on from where it was left.
type follower struct {
	list eventList
	from fleet.EventFilter
}

// next gives what has come.
func (f *follower) next(ctx context.Context) ([]fleet.Event, error) {
	var all []fleet.Event
	err := pages(ctx, f.from, f.list, func(items []fleet.Event) error { all = append(all, items...); return nil })
	if err == nil && len(all) > 0 {
		f.from.Continue = all[len(all)-1].ID
	}
	return all, err
}

// newEvents are those of several lists that have come, by their time. Where one
// list fails, what another gave is not lost: nothing moves on.
func newEvents(ctx context.Context, lists []*follower) ([]fleet.Event, error) {
	var all []fleet.Event
	moved := make([]follower, len(lists))
	for i, f := range lists {
		moved[i] = *f
		items, err := moved[i].next(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	for i, f := range lists {
		*f = moved[i]
	}
	slices.SortStableFunc(all, func(a, b fleet.Event) int { return a.At.Compare(b.At) })
	return all, nil
}

// lookEvery is how often is looked for events without a notice: of some that
// change nothing that is shown, a token for one, none is sent.
const lookEvery = 5 * time.Second

// watchEvents prints what comes until ctx ends.
func (s *shell) watchEvents(ctx context.Context, h hub, lists []*follower, p *printer[fleet.Event]) error {
	notices, err := h.Watch(ctx, "")
	if err != nil {
		return err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for first := true; ; first = false {
		items, err := newEvents(ctx, lists)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how one stops watching
		case err != nil && (first || !errors.Is(err, fleet.ErrUnavailable)):
			return err
		case err != nil:
			s.say("still watching: %s", err)
		case len(items) > 0:
			if err := p.write(items, true); err != nil {
				return err
			}
		}
		select {
		case _, open := <-notices:
			if !open {
				return nil // ctx ended
			}
		case <-look.C:
		}
	}
}

func eventTable() table[fleet.Event] {
	return table[fleet.Event]{
		what:    "events",
		columns: []string{"AT", "ACTOR", "ACTION", "CLUSTER", "APP", "WHAT"},
		wide:    []string{"FROM", "VIA", "ID"},
		row: func(e fleet.Event) []string {
			return []string{
				e.At.UTC().Format(time.RFC3339), e.Actor, e.Action, dash(e.Cluster), dash(e.App), dash(e.Text()), dash(e.From), dash(e.Via), e.ID,
			}
		},
		name: func(e fleet.Event) string { return e.ID },
	}
}

func newAudit(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:     "audit",
		Short:   "Take the record of who changed what elsewhere",
		Example: "  capstan audit export --since 30d > audit.jsonl",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(newAuditExport(s))
	return c
}

func newAuditExport(s *shell) *cobra.Command {
	var f eventFlags
	c := &cobra.Command{
		Use:   "export",
		Short: "Print who changed what as JSON lines, oldest first",
		Example: `  capstan audit export > audit.jsonl
  capstan audit export --since 30d --actor jane@example.com`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			filter, err := f.filter(c.Context(), s, h)
			if err != nil {
				return err
			}
			e := json.NewEncoder(s.out)
			e.SetEscapeHTML(false)
			return pages(c.Context(), filter, h.Events, func(items []fleet.Event) error {
				for _, item := range items {
					if err := e.Encode(item); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.addFlags(c, s, "")
	return c
}
