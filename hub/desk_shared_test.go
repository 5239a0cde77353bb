package hub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// offices are several hubs at work on one store.
func offices(t *testing.T, n int) []*office {
	t.Helper()
	s, link, clock := store.NewMemory(), &wires{pushed: map[string][]fleet.Intent{}}, &clock{now: start}
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	var all []*office
	for range n {
		d, spokes, err := desk.New(ctx, desk.Config{
			Instance: "hub1", Intents: s.Bucket(store.Intent), Statuses: s.Bucket(store.Status), Clusters: s.Bucket(store.Clusters),
			Joins: s.Bucket(store.Joins), Approvals: s.Bucket(store.Approvals), Audit: s.Log(), Changes: s.Changes(), View: view.New(), Link: link, Shared: true, Now: clock.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		runs.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		all = append(all, &office{Desk: d, spokes: spokes, store: s, link: link, clock: clock})
	}
	t.Cleanup(func() { cancel(); runs.Wait() })
	return all
}

// sees waits until a hub shows what it should.
func (o *office) sees(t *testing.T, what string, holds func() bool) {
	t.Helper()
	changes, err := o.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	end := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-changes:
		case <-end:
			t.Fatalf("%s: never seen", what)
		}
	}
}

func TestHubsShareOneState(t *testing.T) {
	o := offices(t, 2)
	o[0].enrolled(t, "dev")
	// The other is asked at once, whatever it has heard so far.
	if err := o[1].report(t, "dev", 1, 1, "by the other"); err != nil {
		t.Fatal(err)
	}
	if _, err := o[1].LabelCluster(t.Context(), "dev", map[string]string{"env": "dev"}, nil); err != nil {
		t.Fatal(err)
	}
	o[0].sees(t, "the report", func() bool { return o[0].messages(t, "dev") == "web:by the other" })
	o[0].sees(t, "the label", func() bool {
		all, err := o[0].Clusters(t.Context(), fleet.ClusterFilter{Selector: "env=dev"})
		return err == nil && len(all) == 1 && all[0].Origins["env"].By == "hub"
	})
	if err := o[1].spokes.Report(t.Context(), "dev", wire.Report{Epoch: 1, Seq: 2, Gone: &web}); err != nil {
		t.Fatal(err)
	}
	if err := o[0].report(t, "dev", 1, 1, "late"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a report that came late, to the other hub, of an app that is gone: %v", err)
	}
	o[0].sees(t, "the app's end", func() bool { return o[0].messages(t, "dev") == "" })
	if err := o[0].RemoveCluster(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	o[1].sees(t, "the cluster's end", func() bool {
		all, err := o[1].Clusters(t.Context(), fleet.ClusterFilter{})
		return err == nil && len(all) == 0
	})
	if _, err := o[1].spokes.Intent(t.Context(), "dev"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("a removed cluster's agent: %v", err)
	}
}

func TestNoHubOverwritesWhatAnotherWrote(t *testing.T) {
	const each = 20
	o := offices(t, 3)
	o[0].enrolled(t, "dev")
	var wg sync.WaitGroup
	for i, hub := range o {
		wg.Go(func() {
			for n := range each {
				app := fleet.AppName{Namespace: "shop", Name: fmt.Sprintf("app%d-%d", i, n)}
				if err := hub.spokes.Report(t.Context(), "dev", reportOf(1, uint64(n+1), app.Name, "x")); err != nil {
					t.Error(err)
				}
				if err := hub.Reject(t.Context(), "dev", app, "plan-"+app.Name, fmt.Sprint(i, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// Each change was made to what the one before had left.
	want := uint64(len(o) * each)
	var in fleet.Intent
	o[0].sees(t, "every change", func() (all bool) {
		var err error
		if in, err = o[0].spokes.Intent(t.Context(), "dev"); err != nil {
			t.Fatal(err)
		}
		return in.Revision >= want
	})
	seen := map[string]bool{}
	for _, r := range in.Rejected {
		seen[r.Plan] = true
	}
	if in.Revision != want || len(seen) != len(o)*each {
		t.Errorf("revision %d with %d rejections, want %d", in.Revision, len(seen), want)
	}
}

func TestEveryHubKnowsWhenAClusterWasLastSeen(t *testing.T) {
	o := offices(t, 2)
	o[0].enrolled(t, "dev")
	o[1].sees(t, "the cluster", func() bool {
		all, err := o[1].Clusters(t.Context(), fleet.ClusterFilter{})
		return err == nil && len(all) == 1 && !all[0].Stale
	})
	o[0].clock.pass(40 * time.Second)
	hb := wire.Heartbeat{Epoch: 1, Cluster: fleet.ClusterReport{Interval: 10 * time.Second}}
	o[1].spokes.Noticed("dev", hb)
	old := hb
	old.Epoch = 0
	o[0].spokes.Noticed("dev", old)
	o[0].spokes.Noticed("nowhere", hb)
	for i, want := range []bool{true, false} {
		all, err := o[i].Clusters(t.Context(), fleet.ClusterFilter{})
		if err != nil || len(all) != 1 || all[0].Stale != want {
			t.Errorf("hub %d: %+v, %v; want stale %t", i, all, err, want)
		}
	}
}

func TestLabelsTellWhoSetThemAndWhen(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	ctx := fleet.WithActor(t.Context(), "ann")
	if _, err := o.LabelCluster(ctx, "dev", map[string]string{"env": "dev", "tier": "gold"}, nil); err != nil {
		t.Fatal(err)
	}
	o.clock.pass(time.Hour)
	c, err := o.LabelCluster(fleet.WithActor(t.Context(), "bob"), "dev", map[string]string{"env": "dev", "tier": "silver"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]fleet.LabelOrigin{
		"zone": {Since: start},
		"env":  {By: "ann", Since: start},
		"tier": {By: "bob", Since: start.Add(time.Hour)},
	}
	check := func(when string, c fleet.Cluster) {
		t.Helper()
		if len(c.Origins) != len(want) {
			t.Errorf("%s: %v", when, c.Origins)
		}
		for k, o := range want {
			if got := c.Origins[k]; got.By != o.By || !got.Since.Equal(o.Since) {
				t.Errorf("%s: %s: %+v, want %+v", when, k, got, o)
			}
		}
	}
	check("set", c)
	all, err := o.open(t).Clusters(t.Context(), fleet.ClusterFilter{})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	check("after a restart", all[0])
}
