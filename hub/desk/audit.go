package desk

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// entry is a change that somebody makes.
type entry struct {
	Action, Cluster, App  string
	Before, After, Detail any
}

// audit notes a change before it is made: one that can't be noted is not made.
func (l *ledger) audit(ctx context.Context, e entry) error {
	out := fleet.Event{Action: e.Action, Cluster: e.Cluster, App: e.App}
	for _, part := range []struct {
		from any
		to   *json.RawMessage
	}{{e.Before, &out.Before}, {e.After, &out.After}, {e.Detail, &out.Detail}} {
		if part.from == nil {
			continue
		}
		b, err := json.Marshal(part.from)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		*part.to = b
	}
	return l.Note(ctx, out)
}

// Note puts an event into the audit log: who asks, from where and when are
// filled in.
func (l *ledger) Note(ctx context.Context, e fleet.Event) error {
	who := fleet.Who(ctx)
	e.At, e.Actor, e.Via, e.From = l.cfg.Now().UTC(), who.Name, who.Via, fleet.Origin(ctx)
	if e.Actor == "" {
		e.Actor = "hub"
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	topic := e.Cluster
	if topic == "" {
		topic = fleetTopic
	}
	if err := l.cfg.Audit.Append(ctx, topic, b); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// fleetTopic has what concerns no one cluster. A cluster of that name shares it.
const fleetTopic = "fleet"

// Events implements fleet.Hub.
func (d *Desk) Events(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	return events(ctx, d.cfg.Audit, f)
}

// Changes implements fleet.Hub.
func (d *Desk) Changes(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	return events(ctx, d.cfg.Changes, f)
}

const defaultPage = 100

// events reads one page of a log. The next begins after the last that was
// looked at, whether it matched or not.
func events(ctx context.Context, log Log, f fleet.EventFilter) (fleet.EventPage, error) {
	page := fleet.EventPage{Items: []fleet.Event{}}
	if err := f.Validate(); err != nil {
		return page, err
	}
	var after uint64
	if f.Continue != "" {
		n, err := strconv.ParseUint(f.Continue, 10, 64)
		if err != nil || n == 0 {
			return page, fleet.WithHint(fleet.Invalid("continue %q is not from a page of events", f.Continue), "give it as the page before said")
		}
		after = n
	}
	limit := f.Limit
	if limit == 0 {
		limit = defaultPage
	}
	last := after
	err := log.Read(ctx, f.Clusters, after, f.Since, func(seq uint64, raw []byte) (bool, error) {
		if len(page.Items) == limit {
			page.Continue = strconv.FormatUint(last, 10)
			return false, nil
		}
		last = seq
		var e fleet.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			return false, fmt.Errorf("event %d: %w", seq, err)
		}
		e.ID = strconv.FormatUint(seq, 10)
		if matches(f, e) {
			page.Items = append(page.Items, e)
		}
		return true, nil
	})
	return page, err
}

func matches(f fleet.EventFilter, e fleet.Event) bool {
	return !e.At.Before(f.Since) &&
		(f.Until.IsZero() || e.At.Before(f.Until)) &&
		(f.Actor == "" || f.Actor == e.Actor) &&
		(len(f.Actions) == 0 || slices.Contains(f.Actions, e.Action)) &&
		(len(f.Clusters) == 0 || slices.Contains(f.Clusters, e.Cluster)) &&
		(f.App == "" || f.App == e.App)
}
