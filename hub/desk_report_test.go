package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestOlderReportsAreRefused(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	o.beat(t, "dev", 5)
	for _, r := range []struct {
		epoch, seq uint64
		ok         bool
	}{{5, 2, true}, {5, 1, false}, {5, 2, false}, {4, 9, false}, {6, 1, false}, {5, 3, true}} {
		err := o.report(t, "dev", r.epoch, r.seq, fmt.Sprint(r.epoch, ".", r.seq))
		if (err == nil) != r.ok || err != nil && !errors.Is(err, fleet.ErrConflict) {
			t.Errorf("%d.%d: got %v", r.epoch, r.seq, err)
		}
	}
	if got := o.messages(t, "dev"); got != "web:5.3" {
		t.Errorf("got %s", got)
	}
	if ack := o.beat(t, "dev", 3); ack.Epoch != 5 {
		t.Errorf("an old process is told epoch %d, want 5", ack.Epoch)
	}
	gone := wire.Report{Epoch: 5, Seq: 4, Gone: &web}
	if err := o.spokes.Report(t.Context(), "dev", gone); err != nil {
		t.Fatal(err)
	}
	if err := o.report(t, "dev", 5, 3, "back from the dead"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a report older than the app's end: got %v, want ErrConflict", err)
	}
	if got := o.messages(t, "dev"); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestWhatANewProcessDoesNotReportIsGone(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	for i, name := range []string{"web", "api"} {
		if err := o.spokes.Report(t.Context(), "dev", reportOf(1, uint64(i+1), name, "one")); err != nil {
			t.Fatal(err)
		}
	}
	o.beat(t, "dev", 2)
	if err := o.spokes.Report(t.Context(), "dev", reportOf(2, 1, "api", "two")); err != nil {
		t.Fatal(err)
	}
	if got := o.messages(t, "dev"); got != "api:two web:one" {
		t.Errorf("before all was sent: %s", got)
	}
	if err := o.spokes.Resent(t.Context(), "dev", wire.Resent{Epoch: 1}); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("of an old process: got %v, want ErrConflict", err)
	}
	if err := o.spokes.Resent(t.Context(), "dev", wire.Resent{Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	if got := o.messages(t, "dev"); got != "api:two" {
		t.Errorf("after: %s", got)
	}
	if got := o.open(t).messages(t, "dev"); got != "api:two" {
		t.Errorf("after a restart: %s", got)
	}
}

func TestARestartKeepsLabelsAndStatuses(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "dev"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.report(t, "dev", 1, 7, "well"); err != nil {
		t.Fatal(err)
	}
	o = o.open(t)
	cs, err := o.Clusters(t.Context(), fleet.ClusterFilter{Selector: "env=dev,zone=a"})
	if err != nil || len(cs) != 1 || cs[0].UID != "uid-dev" || cs[0].AgentKey != "key-dev" || cs[0].Apps.Pending != 1 || cs[0].Stale {
		t.Errorf("got %+v, %v", cs, err)
	}
	if err := o.report(t, "dev", 1, 6, "late"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a report from before the restart: got %v, want ErrConflict", err)
	}
	if ack := o.beat(t, "dev", 1); ack.Revision != 1 || ack.Epoch != 1 {
		t.Errorf("got %+v", ack)
	}
}

func TestAgentsOfALargeFleetBeatLessOften(t *testing.T) {
	for i, want := range map[int]time.Duration{1: 0, 1700: 0, 1800: 20 * time.Second, 3500: 30 * time.Second} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			o := newOffice(t)
			for n := range i {
				if _, err := o.store.Bucket(store.Clusters).Put(t.Context(), fmt.Sprintf("c%d", n), []byte(`{"key":"k"}`), 0); err != nil {
					t.Fatal(err)
				}
			}
			if ack := o.open(t).beat(t, "c0", 1); ack.Every != want {
				t.Errorf("asked for a heartbeat every %s, want %s", ack.Every, want)
			}
		})
	}
}

func TestAClustersQuotaIsItsOwn(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	o.enrolled(t, "prod")
	var refused error
	seq := uint64(0)
	for i := 0; i < 3000 && refused == nil; i++ {
		seq++
		refused = o.spokes.Report(t.Context(), "dev", reportOf(1, seq, fmt.Sprintf("a%d", i), ""))
	}
	if !errors.Is(refused, fleet.ErrInvalid) {
		t.Errorf("too many apps: got %v, want ErrInvalid", refused)
	}
	refused = nil
	for i := 0; i < 2000 && refused == nil; i++ {
		refused = o.spokes.Report(t.Context(), "prod", reportOf(1, uint64(i+1), fmt.Sprintf("a%d", i), strings.Repeat("x", 7000)))
	}
	if !errors.Is(refused, fleet.ErrInvalid) {
		t.Errorf("too many bytes: got %v, want ErrInvalid", refused)
	}
	o.enrolled(t, "edge")
	if err := o.report(t, "edge", 1, 1, "well"); err != nil {
		t.Errorf("another cluster: %v", err)
	}
}

func TestWatchersHearOfChanges(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	ctx, cancel := context.WithCancel(t.Context())
	c, err := o.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // coalesced
		if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": o.clock.Now().Format("x05")}, nil); err != nil {
			t.Fatal(err)
		}
		o.clock.pass(time.Second)
	}
	<-c
	select {
	case <-c:
		t.Error("what came at once is told twice")
	default:
	}
	cancel()
	if _, open := <-c; open {
		t.Error("the channel is not closed")
	}
}
