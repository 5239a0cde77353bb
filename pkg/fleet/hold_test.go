package fleet_test

import (
	"errors"
	"testing"

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
