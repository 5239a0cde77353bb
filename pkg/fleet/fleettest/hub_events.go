package fleettest

import (
	"context"
	"slices"
	"strconv"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Events implements fleet.Hub.
func (h *Hub) Events(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return fleet.EventPage{}, err
	}
	return page(h.events, f)
}

// Changes implements fleet.Hub.
func (h *Hub) Changes(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return fleet.EventPage{}, err
	}
	return page(h.seed.Changes, f)
}

func asked(e fleet.Event, f fleet.EventFilter) bool {
	return !e.At.Before(f.Since) && (f.Until.IsZero() || e.At.Before(f.Until)) &&
		(f.Actor == "" || f.Actor == e.Actor) && (f.App == "" || f.App == e.App) &&
		(len(f.Actions) == 0 || slices.Contains(f.Actions, e.Action)) &&
		(len(f.Clusters) == 0 || slices.Contains(f.Clusters, e.Cluster))
}

func page(all []fleet.Event, f fleet.EventFilter) (fleet.EventPage, error) {
	out := fleet.EventPage{Items: []fleet.Event{}}
	if err := f.Validate(); err != nil {
		return out, err
	}
	after := 0
	if f.Continue != "" {
		var err error
		if after, err = strconv.Atoi(f.Continue); err != nil || after <= 0 {
			return out, fleet.Invalid("continue %q is not from a page of events", f.Continue)
		}
	}
	for _, e := range all {
		id, err := strconv.Atoi(e.ID)
		if err != nil {
			return out, err
		}
		if id <= after || !asked(e, f) {
			continue
		}
		if f.Limit > 0 && len(out.Items) == f.Limit {
			out.Continue = out.Items[len(out.Items)-1].ID
			break
		}
		out.Items = append(out.Items, e)
	}
	return out, nil
}
