package fleet

import (
	"cmp"
	"encoding/json"
	"time"
)

// Event is one thing that was changed: by somebody at the hub (Hub.Events), or
// by an agent on its cluster (Hub.Changes).
type Event struct {
	ID      string          `json:"id"` // its place: events are in the order of it
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor"` // "hub": by itself; "agent": the cluster's own
	Via     string          `json:"via,omitempty"`
	From    string          `json:"from,omitempty"` // address it was asked from
	Action  string          `json:"action"`
	Cluster string          `json:"cluster,omitempty"` // none: it concerns no one cluster
	App     string          `json:"app,omitempty"`     // namespace/name
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// Text is short for people: what was there, and what came.
func (e Event) Text() string {
	before, after := revisionOf(e.Before), revisionOf(e.After)
	switch {
	case before != "" || after != "":
		return cmp.Or(before, "nothing") + " -> " + cmp.Or(after, "nothing")
	case len(e.Before) > 0 || len(e.After) > 0:
		return cmp.Or(string(e.Before), "nothing") + " -> " + cmp.Or(string(e.After), "nothing")
	}
	return string(e.Detail)
}

func revisionOf(raw json.RawMessage) string {
	var v struct{ Revision Revision }
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	return v.Revision.Short()
}

// EventFilter narrows Events and Changes. Empty fields mean all.
type EventFilter struct {
	Since, Until time.Time // from Since on, and before Until
	Actor        string
	Actions      []string
	Clusters     []string
	App          string // "namespace/name"
	Limit        int    // of the page; 0: the hub's own
	// Continue is what the page before said, or the ID of the event after which to
	// begin.
	Continue string
}

// MaxEvents is the most events a page has.
const MaxEvents = 1000

// Validate checks a filter's form. The error is ErrInvalid.
func (f EventFilter) Validate() error {
	if f.Limit < 0 || f.Limit > MaxEvents {
		return Invalid("limit %d is not between 1 and %d", f.Limit, MaxEvents)
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return Invalid("since %s is not before until %s", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339))
	}
	for _, c := range f.Clusters {
		if err := ValidateName("cluster", c); err != nil {
			return err
		}
	}
	if f.App != "" {
		if _, err := ParseAppName(f.App); err != nil {
			return err
		}
	}
	return nil
}

// EventPage is a part of the events that match, oldest first.
type EventPage struct {
	Items []Event `json:"items"`
	// Continue is where the next page begins; empty: there is none now.
	Continue string `json:"continue,omitempty"`
}

// The actions of Changes.
const (
	ChangeApplied = "applied" // another revision or digest
	ChangeGone    = "gone"    // the app left the cluster
	ChangeDrifted = "drifted" // objects differ from what was applied
)
