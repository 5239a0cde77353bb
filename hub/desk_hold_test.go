package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// past has the agents answer with a history of two.
func (o *office) past(t *testing.T) []fleet.HistoryEntry {
	t.Helper()
	history := []fleet.HistoryEntry{
		{Revision: fleet.NewRevision("main", strings.Repeat("2", 40)), Digest: "sha256:22"},
		{Revision: fleet.NewRevision("main", strings.Repeat("1", 40)), Digest: "sha256:11"},
	}
	data, err := json.Marshal(history)
	if err != nil {
		t.Fatal(err)
	}
	o.link.answer = func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: len(data), Data: data}, nil }
	return history
}

// withWeb is an office with a cluster that has the app web.
func withWeb(t *testing.T, clusters ...string) *office {
	t.Helper()
	o := newOffice(t)
	for _, c := range clusters {
		o.enrolled(t, c)
		if err := o.report(t, c, 1, 1, "well"); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func TestHoldsReachTheAgentAsOrders(t *testing.T) {
	o := withWeb(t, "dev", "prod")
	ctx := fleet.WithActor(t.Context(), "jane")
	history := o.past(t)
	if asked, err := o.Suspend(ctx, web, nil, "look"); err != nil || fmt.Sprint(asked) != "[dev prod]" {
		t.Fatal(asked, err)
	}
	hold, err := o.Rollback(ctx, "dev", web, fleet.RollbackTo{Why: "bad"})
	if err != nil || hold.Revision != history[1].Revision || hold.Digest != history[1].Digest || hold.By != "jane" || !hold.At.Equal(start) {
		t.Fatal(hold, err)
	}
	in := o.link.last("dev")
	want := []fleet.HoldOrder{
		{App: web, Hold: fleet.Hold{Kind: fleet.HoldSuspend, By: "jane", At: start, Why: "look"}},
		{App: web, Hold: hold},
	}
	if len(in.Holds) != 2 || in.Holds[0] != want[0] || in.Holds[1] != want[1] {
		t.Errorf("pushed %+v", in.Holds)
	}

	// Again: it takes the place of the one before.
	if _, err := o.Suspend(fleet.WithActor(t.Context(), "ada"), web, []string{"dev"}, ""); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Holds) != 2 || in.Holds[1].By != "ada" {
		t.Errorf("pushed %+v", in.Holds)
	}
	if asked, err := o.Resume(ctx, web, nil, fleet.HoldRollback); err != nil || fmt.Sprint(asked) != "[dev]" {
		t.Error(asked, err)
	}
	if in := o.link.last("dev"); len(in.Holds) != 2 || in.Holds[0].Lifted || !in.Holds[1].Lifted || in.Holds[1].Kind != fleet.HoldRollback {
		t.Errorf("pushed %+v", in.Holds)
	}
	if _, err := o.Resume(ctx, web, nil, fleet.HoldRollback); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}

	page, err := o.Events(t.Context(), fleet.EventFilter{Actions: []string{"suspend", "rollback", "resume"}, Clusters: []string{"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, e := range page.Items {
		said = append(said, e.Actor+" "+e.Action+" "+e.App)
	}
	if want := "jane suspend shop/web,jane rollback shop/web,ada suspend shop/web,jane resume shop/web"; strings.Join(said, ",") != want {
		t.Errorf("events %s", said)
	}
	if text := page.Items[1].Text(); text != "main@sha1:22222222 -> main@sha1:11111111" {
		t.Errorf("the rollback reads %q", text)
	}
}

func TestAnEmptyHubLiftsWhatAnotherHeld(t *testing.T) {
	o := withWeb(t, "dev")
	r := reportOf(1, 2, web.Name, "pinned")
	r.App.Holds = []fleet.Hold{{Kind: fleet.HoldRollback, By: "of another hub", At: start, Revision: "sha1:1"}}
	if err := o.spokes.Report(t.Context(), "dev", r); err != nil {
		t.Fatal(err)
	}
	if apps, err := o.Apps(t.Context(), fleet.AppFilter{Held: true}); err != nil || len(apps) != 1 || apps[0].Held(fleet.HoldRollback).By != "of another hub" {
		t.Fatal(apps, err)
	}
	if asked, err := o.Resume(t.Context(), web, nil, ""); err != nil || fmt.Sprint(asked) != "[dev]" {
		t.Fatal(asked, err)
	}
	if in := o.link.last("dev"); len(in.Holds) != 1 || !in.Holds[0].Lifted || in.Holds[0].Kind != fleet.HoldRollback {
		t.Errorf("pushed %+v", in.Holds)
	}
}

func TestWhatIsSuspendedInGitIsResumedThere(t *testing.T) {
	o := withWeb(t, "dev")
	r := reportOf(1, 2, web.Name, "suspended")
	r.App.Reason = "Suspended"
	if err := o.spokes.Report(t.Context(), "dev", r); err != nil {
		t.Fatal(err)
	}
	_, err := o.Resume(t.Context(), web, nil, "")
	if !errors.Is(err, fleet.ErrConflict) || !strings.Contains(fleet.Hint(err), "spec.suspend") {
		t.Errorf("got %v (%s)", err, fleet.Hint(err))
	}
}

func TestHoldsLeaveRoomForApprovals(t *testing.T) {
	o := withWeb(t, "dev")
	why := strings.Repeat("x", fleet.MaxWhy)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		r := reportOf(1, uint64(n+2), fmt.Sprint("app-", n), "well")
		if err := o.spokes.Report(t.Context(), "dev", r); err != nil {
			t.Fatal(err)
		}
		_, err = o.Suspend(t.Context(), r.App.Name(), nil, why)
	}
	if !errors.Is(err, fleet.ErrConflict) || !strings.Contains(fleet.Hint(err), "capstan get apps --held") || n < 100 {
		t.Fatalf("after %d: %v (%s)", n, err, fleet.Hint(err))
	}
	if err := o.Approve(t.Context(), approval("dev")); err != nil {
		t.Error(err)
	}
	// That holds are over is forgotten first, from the oldest on.
	for i := range n - 1 {
		if _, err := o.Resume(t.Context(), fleet.AppName{Namespace: "shop", Name: fmt.Sprint("app-", i)}, nil, ""); err != nil {
			t.Fatal(err)
		}
		o.clock.pass(time.Second)
	}
	for i := range 2 * n {
		app := fleet.AppName{Namespace: "shop", Name: fmt.Sprint("app-", i%n)}
		if _, err := o.Suspend(t.Context(), app, nil, why); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Resume(t.Context(), app, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	data, err := wire.Encode(wire.Intent{Intent: o.link.last("dev")})
	if err != nil || len(data) > 80<<10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestAnOrderIsShownBeforeTheClusterAnswers(t *testing.T) {
	o := withWeb(t, "dev")
	holds := func() []fleet.Hold {
		t.Helper()
		apps, err := o.Apps(t.Context(), fleet.AppFilter{})
		if err != nil || len(apps) != 1 {
			t.Fatal(apps, err)
		}
		return apps[0].Holds
	}
	if _, err := o.Suspend(t.Context(), web, nil, "look"); err != nil {
		t.Fatal(err)
	}
	if got := holds(); len(got) != 1 || !got[0].Asked || got[0].Why != "look" {
		t.Errorf("asked for: %+v", got)
	}
	o = o.open(t) // after a restart, too
	if got := holds(); len(got) != 1 || !got[0].Asked {
		t.Errorf("after a restart: %+v", got)
	}
	r := reportOf(1, 2, web.Name, "suspended")
	r.App.Holds = []fleet.Hold{o.link.last("dev").Holds[0].Hold}
	if err := o.spokes.Report(t.Context(), "dev", r); err != nil {
		t.Fatal(err)
	}
	if got := holds(); len(got) != 1 || got[0].Asked || got[0].Ending {
		t.Errorf("answered: %+v", got)
	}
	o.clock.pass(time.Minute)
	if _, err := o.Resume(t.Context(), web, nil, ""); err != nil {
		t.Fatal(err)
	}
	if got := holds(); len(got) != 1 || !got[0].Ending {
		t.Errorf("its end asked for: %+v", got)
	}
	if err := o.report(t, "dev", 1, 3, "well"); err != nil {
		t.Fatal(err)
	}
	if got := holds(); len(got) != 0 {
		t.Errorf("over: %+v", got)
	}
}
