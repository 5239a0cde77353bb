package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const fighting = "Fight"

// healing counts how often an object had to be put back, so that a fight with
// another controller slows down instead of looping, and is told.
type healing struct {
	count int
	last  time.Time

	drift fleet.DriftSummary // what was undone last
	same  int                // how often just that was undone in a row
	since time.Time          // when it was first
}

const (
	patience = 5                // heals at once; after that they are spaced out
	calm     = 10 * time.Minute // without a heal: the fight is over
	longest  = 5 * time.Minute  // between two heals
)

func (h healing) next() time.Time {
	if h.count < patience {
		return time.Time{}
	}
	return h.last.Add(min(longest, time.Second<<min(h.count-patience, 16)))
}

// undone is the healing after one more.
func (h healing) undone(d fleet.DriftSummary, now time.Time) healing {
	if h.same == 0 || h.drift.Manager != d.Manager || !slices.Equal(h.drift.Fields, d.Fields) {
		h.same, h.since = 0, now
	}
	h.count, h.same, h.last, h.drift = h.count+1, h.same+1, now, d
	return h
}

// isFight tells whether the same manager did the same again and again.
func (h healing) isFight(now time.Time) bool { return h.same >= patience && now.Sub(h.last) <= calm }

func (h healing) describe() string {
	what, who := strings.Join(h.drift.Fields, ", "), h.drift.Manager
	switch {
	case len(h.drift.Fields) == 1 && h.drift.Fields[0] == "":
		what = "deleted"
	case what == "":
		what = "changed beside what is in Git"
	default:
		what = "changed in " + what
	}
	if who == "" {
		who = "somebody"
	}
	return fmt.Sprintf("%s is %s by %s each time it is put back, %d times since %s", h.drift.Object, what, who, h.same, h.since.UTC().Format(time.RFC3339))
}

const fightHint = "let one of the two own it: take it out of Git, name it in spec.ignoreDifferences, or stop the other one"

// fight is the first of the app's objects that is fought over, nil if there is
// none. Called with Engine.mu held.
func (a *app) fight(now time.Time) *healing {
	var first *healing
	for _, h := range a.heals {
		if h.isFight(now) && (first == nil || h.drift.Object.Compare(first.drift.Object) < 0) {
			first = &h
		}
	}
	return first
}

// tellFight puts into a status that an object of the app is fought over, and
// returns the earlier of look and the time after which that is over.
func (e *Engine) tellFight(a *app, s *fleet.AppStatus, look time.Duration) time.Duration {
	now := e.parts.Now()
	f := a.fight(now)
	if f == nil {
		return look
	}
	s.Reason, s.Message, s.Hint = fighting, f.describe(), fightHint
	return sooner(look, f.last.Add(calm).Sub(now)+time.Second)
}

// sooner is the smaller of two times to wait; 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
