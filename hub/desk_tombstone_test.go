package hub_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// kept counts what a bucket holds.
func (o *office) kept(t *testing.T, bucket string) int {
	t.Helper()
	n := 0
	if err := o.store.Bucket(bucket).All(context.Background(), func(string, []byte, uint64) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func (o *office) gone(t *testing.T, seq uint64) {
	t.Helper()
	if err := o.spokes.Report(t.Context(), "dev", wire.Report{Epoch: 1, Seq: seq, Gone: &web}); err != nil {
		t.Fatal(err)
	}
}

func TestAnOldReportDoesNotBringAnAppBackAfterARestart(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	if err := o.report(t, "dev", 1, 1, "well"); err != nil {
		t.Fatal(err)
	}
	o.gone(t, 3)
	o = o.open(t)
	if err := o.report(t, "dev", 1, 2, "back from the dead"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if got := o.messages(t, "dev"); got != "" {
		t.Errorf("got %s", got)
	}
	if err := o.report(t, "dev", 1, 4, "made anew"); err != nil {
		t.Errorf("a later report: %v", err)
	}
	if got := o.open(t).messages(t, "dev"); got != "web:made anew" {
		t.Errorf("got %s", got)
	}
}

func TestTombstonesDoNotPileUp(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	seq := uint64(0)
	for range 2 {
		for i := range 700 {
			name := fleet.AppName{Namespace: "shop", Name: "a" + time.Duration(i).String()}
			seq += 2
			if err := o.spokes.Report(t.Context(), "dev", reportOf(1, seq-1, name.Name, "")); err != nil {
				t.Fatal(err)
			}
			if err := o.spokes.Report(t.Context(), "dev", wire.Report{Epoch: 1, Seq: seq, Gone: &name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := o.kept(t, store.Status); n != 500 {
		t.Errorf("%d tombstones are kept, want 500", n)
	}
	o.beat(t, "dev", 2)
	if err := o.spokes.Resent(t.Context(), "dev", wire.Resent{Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	if n := o.kept(t, store.Status); n != 0 {
		t.Errorf("%d are kept of an epoch whose reports are refused anyway", n)
	}
}

func TestWhatIsLongGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.enrolled(t, "dev")
		o.enrolled(t, "old")
		if err := o.report(t, "dev", 1, 1, "well"); err != nil {
			t.Fatal(err)
		}
		o.gone(t, 2)
		if err := o.RemoveCluster(t.Context(), "old"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { o.Tend(ctx); done <- o.Run(ctx) }()
		pass := func(d time.Duration) {
			o.clock.pass(d)
			time.Sleep(11 * time.Minute) // of the bubble's time: the next sweep
			synctest.Wait()
		}
		pass(23 * time.Hour)
		if statuses, clusters := o.kept(t, store.Status), o.kept(t, store.Clusters); statuses != 1 || clusters != 2 {
			t.Errorf("forgotten too soon: %d, %d", statuses, clusters)
		}
		pass(2 * time.Hour)
		if n := o.kept(t, store.Status); n != 0 {
			t.Errorf("%d tombstones are kept", n)
		}
		pass(100 * 24 * time.Hour)
		if clusters, intents := o.kept(t, store.Clusters), o.kept(t, store.Intent); clusters != 1 || intents != 0 {
			t.Errorf("%d clusters and %d intents are kept", clusters, intents)
		}
		if err := o.report(t, "old", 1, 9, "zombie"); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("a report of a cluster that was forgotten: got %v, want ErrForbidden", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := o.spokes.Enrol(t.Context(), o.join(t, "old"), "key2"); err != nil {
			t.Errorf("it can't come back: %v", err)
		}
	})
}

func TestATokenThatWasNotUsedIsTakenBack(t *testing.T) {
	o := newOffice(t)
	id := o.join(t, "dev")
	if err := o.RemoveCluster(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.spokes.Enrol(t.Context(), id, "key1"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
	if err := o.RemoveCluster(t.Context(), "dev"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("again: got %v, want ErrNotFound", err)
	}
}

func TestALinkThatWentDownIsShownSoon(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	stale := func() (bool, bool) {
		t.Helper()
		all, err := o.Clusters(t.Context(), fleet.ClusterFilter{})
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].Stale, all[0].LinkDown != nil
	}
	o.clock.pass(time.Second)
	o.spokes.Lost("dev", o.clock.Now())
	o.spokes.Lost("ghost", o.clock.Now())
	if s, down := stale(); s || !down {
		t.Errorf("at once: stale %v, down %v; an agent may be back in a moment", s, down)
	}
	o.clock.pass(6 * time.Second)
	if s, _ := stale(); !s {
		t.Error("it is not stale, though nobody is there")
	}
	o.beat(t, "dev", 1)
	if s, down := stale(); s || down {
		t.Errorf("after a heartbeat: stale %v, down %v", s, down)
	}
	o.spokes.Lost("dev", o.clock.Now().Add(-time.Second))
	o.clock.pass(6 * time.Second)
	if s, down := stale(); s || down {
		t.Errorf("a late word of a connection that was lost before: stale %v, down %v", s, down)
	}
}
