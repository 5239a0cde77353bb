package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// HoldKind says in which way an app is kept from following Git.
type HoldKind string

const (
	// HoldSuspend: the app is left as it is. Nothing of it is rendered, applied,
	// pruned or healed.
	HoldSuspend HoldKind = "suspend"
	// HoldRollback: the app is kept at a revision from its own history. Drift is
	// healed to that.
	HoldRollback HoldKind = "rollback"
)

// Hold is a person's word that an app is not to follow Git for a while. It
// stays until somebody lifts it.
type Hold struct {
	Kind HoldKind  `json:"kind"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Why  string    `json:"why,omitempty"`

	// Of a rollback: what the app is kept at, and what that came to then.
	Revision Revision `json:"revision,omitempty"`
	Digest   Digest   `json:"digest,omitempty"`

	// Refused is why the cluster does not do it; empty: it does. Only a cluster
	// says so.
	Refused string `json:"refused,omitempty"`

	// Asked: the cluster has not said yet what it does about it. Ending: its end was
	// asked for, and the cluster holds the app still. Only the hub says so.
	Asked  bool `json:"asked,omitempty"`
	Ending bool `json:"ending,omitempty"`
}

// WithOrders gives an app's holds, as its cluster says they are, with what people
// asked for since. Both are of one app.
func WithOrders(holds []Hold, orders []HoldOrder) []Hold {
	out := slices.Clone(holds)
	for _, o := range orders {
		i := slices.IndexFunc(out, func(h Hold) bool { return h.Kind == o.Kind })
		switch {
		case i >= 0 && !out[i].At.Before(o.At):
		case o.Lifted && i >= 0:
			out[i].Ending = true
		case o.Lifted:
		case i >= 0:
			out[i] = o.Hold
			out[i].Asked = true
		default:
			out = append(out, o.Hold)
			out[len(out)-1].Asked = true
		}
	}
	return out
}

// Equal tells whether two holds say the same.
func (h Hold) Equal(o Hold) bool {
	same := h.At.Equal(o.At)
	h.At, o.At = time.Time{}, time.Time{}
	return same && h == o
}

// HoldOrder is a Hold on its way to a cluster. Of each kind the latest for an
// app counts.
type HoldOrder struct {
	App AppName `json:"app"`
	Hold
	Lifted bool `json:"lifted,omitempty"` // it is over; By and At say who lifted it, and when
}

const (
	// MaxWhy is the most bytes that a Hold's reason may have.
	MaxWhy = 256
	// MaxOrders is the most orders that an intent may carry.
	MaxOrders = 512
)

// Same tells whether two orders are about the same app and of the same kind.
func (o HoldOrder) Same(p HoldOrder) bool { return o.App == p.App && o.Kind == p.Kind }

// Validate checks an order's form. A kind that is not known is for the cluster
// to refuse. The error is ErrInvalid.
func (o HoldOrder) Validate() error {
	if _, err := ParseAppName(o.App.String()); err != nil {
		return err
	}
	if len(o.Why) > MaxWhy {
		return Invalid("the reason is longer than %d bytes", MaxWhy)
	}
	if o.Kind == HoldRollback && !o.Lifted && o.Revision.Commit() == "" {
		return Invalid("the rollback of %s names no commit", o.App)
	}
	return nil
}

// MergeHolds gives the orders after i has been taken on top of those before.
// Absence lifts nothing: that is said by an order, which is in the result.
func (i Intent) MergeHolds(before []HoldOrder) []HoldOrder {
	out := slices.Clone(i.Holds)
	for _, b := range before {
		if !b.Lifted && !slices.ContainsFunc(i.Holds, b.Same) {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b HoldOrder) int {
		return cmp.Or(a.App.Compare(b.App), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// Held is the hold of a kind that is in force on an app; nil: there is none.
func (s AppStatus) Held(kind HoldKind) *Hold {
	for i := range s.Holds {
		if h := &s.Holds[i]; h.Kind == kind && h.Refused == "" && !h.Asked {
			return h
		}
	}
	return nil
}

// IsHeld tells whether somebody keeps an app from following Git.
func (s AppStatus) IsHeld() bool { return s.Held(HoldSuspend) != nil || s.Held(HoldRollback) != nil }

// RollbackTo says to what an app goes back.
type RollbackTo struct {
	// Revision is one of the app's history, a commit, or 7 digits or more of its
	// beginning.
	Revision string `json:"revision,omitempty"`
	// Steps is how many contents to go back where no revision is named; 0: one.
	Steps int    `json:"steps,omitempty"`
	Why   string `json:"why,omitempty"`
}

// Validate checks a wish's form. The error is ErrInvalid.
func (r RollbackTo) Validate() error {
	switch {
	case r.Steps < 0:
		return Invalid("%d steps lead nowhere: give 1 or more", r.Steps)
	case r.Steps > 0 && r.Revision != "":
		return Invalid("a revision and a number of steps are given: give one of them")
	case len(r.Why) > MaxWhy:
		return Invalid("the reason is longer than %d bytes", MaxWhy)
	case r.Revision == "":
		return nil
	}
	return AppFilter{Revision: r.Revision}.Validate()
}

// In finds what is meant in an app's history, which is newest first. Entries of
// the same content in a row are one step. The error is ErrInvalid or ErrNotFound.
func (r RollbackTo) In(history []HistoryEntry) (HistoryEntry, error) {
	if err := r.Validate(); err != nil {
		return HistoryEntry{}, err
	}
	if r.Revision != "" {
		commit := AppFilter{Revision: r.Revision}.commit()
		for _, e := range history {
			if strings.HasPrefix(e.Revision.Commit(), commit) {
				return e, nil
			}
		}
		return HistoryEntry{}, WithHint(NotFound("revision %s is not in the app's history there", r.Revision), inHistory(history))
	}
	left := max(r.Steps, 1)
	for i := 1; i < len(history); i++ {
		if history[i].Digest == history[i-1].Digest {
			continue
		}
		if left--; left == 0 {
			return history[i], nil
		}
	}
	return HistoryEntry{}, WithHint(NotFound("the app's history there does not go back by %d", max(r.Steps, 1)), inHistory(history))
}

// inHistory lists what could be meant.
func inHistory(history []HistoryEntry) string {
	var all []string
	for _, e := range history {
		if r := e.Revision.Short(); !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return "nothing has been applied of it yet"
	}
	return fmt.Sprintf("in it are %s", strings.Join(all, ", "))
}
