package fleet_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestARollbackCountsContentsNotEntries(t *testing.T) {
	var history []fleet.HistoryEntry
	for _, e := range []string{"5c", "4b", "3b", "2a", "1a"} {
		commit := ""
		for range 40 {
			commit += e[:1]
		}
		history = append(history, fleet.HistoryEntry{Revision: fleet.NewRevision("main", commit), Digest: fleet.Digest(e[1:])})
	}
	for _, c := range []struct {
		to   fleet.RollbackTo
		want string // the commit's digit
	}{
		{fleet.RollbackTo{}, "4"},
		{fleet.RollbackTo{Steps: 1}, "4"},
		{fleet.RollbackTo{Steps: 2}, "2"},
		{fleet.RollbackTo{Steps: 3}, ""},
		{fleet.RollbackTo{Revision: "3333333"}, "3"},
		{fleet.RollbackTo{Revision: "5555555"}, "5"},
		{fleet.RollbackTo{Revision: "main@sha1:1111111"}, "1"},
		{fleet.RollbackTo{Revision: "7777777"}, ""},
	} {
		got, err := c.to.In(history)
		switch {
		case c.want == "" && (!errors.Is(err, fleet.ErrNotFound) || fleet.Hint(err) == ""):
			t.Errorf("%+v: %+v, %v", c.to, got, err)
		case c.want != "" && (err != nil || got.Revision.Commit()[:1] != c.want):
			t.Errorf("%+v: %+v, %v; want %s", c.to, got, err, c.want)
		}
	}
	if _, err := (fleet.RollbackTo{}).In(nil); !errors.Is(err, fleet.ErrNotFound) || fleet.Hint(err) != "nothing has been applied of it yet" {
		t.Errorf("of no history: %v", err)
	}
}

func TestOfEachKindTheLatestOrderCounts(t *testing.T) {
	a, b := fleet.AppName{Namespace: "shop", Name: "a"}, fleet.AppName{Namespace: "shop", Name: "b"}
	order := func(app fleet.AppName, kind fleet.HoldKind, by string, lifted bool) fleet.HoldOrder {
		return fleet.HoldOrder{App: app, Hold: fleet.Hold{Kind: kind, By: by}, Lifted: lifted}
	}
	before := []fleet.HoldOrder{
		order(a, fleet.HoldSuspend, "1", false), order(a, fleet.HoldRollback, "1", false),
		order(b, fleet.HoldSuspend, "1", false), order(b, fleet.HoldRollback, "1", true),
	}
	in := fleet.Intent{Holds: []fleet.HoldOrder{order(b, fleet.HoldSuspend, "2", true), order(a, fleet.HoldRollback, "2", false)}}
	want := []fleet.HoldOrder{order(a, fleet.HoldRollback, "2", false), order(a, fleet.HoldSuspend, "1", false), order(b, fleet.HoldSuspend, "2", true)}
	got := in.MergeHolds(before)
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if got := (fleet.Intent{}).MergeHolds(want[:2]); len(got) != 2 {
		t.Errorf("absence lifted something: %+v", got)
	}
}

func TestWhatIsAskedOfAClusterIsToldFromWhatItDoes(t *testing.T) {
	at := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	hold := func(by string, after time.Duration) fleet.Hold {
		return fleet.Hold{Kind: fleet.HoldSuspend, By: by, At: at.Add(after)}
	}
	asked, ending := hold("b", time.Minute), hold("a", 0)
	asked.Asked, ending.Ending = true, true
	for name, c := range map[string]struct {
		says    []fleet.Hold
		order   fleet.HoldOrder
		want    []fleet.Hold
		inForce bool
	}{
		"nothing yet":         {nil, fleet.HoldOrder{Hold: hold("b", time.Minute)}, []fleet.Hold{asked}, false},
		"of an earlier order": {[]fleet.Hold{hold("a", 0)}, fleet.HoldOrder{Hold: hold("b", time.Minute)}, []fleet.Hold{asked}, false},
		"of this very order":  {[]fleet.Hold{hold("b", time.Minute)}, fleet.HoldOrder{Hold: hold("b", time.Minute)}, []fleet.Hold{hold("b", time.Minute)}, true},
		"not that it is over": {[]fleet.Hold{hold("a", 0)}, fleet.HoldOrder{Hold: hold("b", time.Minute), Lifted: true}, []fleet.Hold{ending}, true},
		"that it is over":     {nil, fleet.HoldOrder{Hold: hold("b", time.Minute), Lifted: true}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := fleet.WithOrders(c.says, []fleet.HoldOrder{c.order})
			if !slices.Equal(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if held := (fleet.AppStatus{Holds: got}).IsHeld(); held != c.inForce {
				t.Errorf("held: %v", held)
			}
		})
	}
}
