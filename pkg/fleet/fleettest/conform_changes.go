package fleettest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// patience is how long a suite waits for what must come.
const patience = 20 * time.Second

func labels(t *testing.T, hub fleet.Hub, _ Seed) {
	c, err := hub.LabelCluster(t.Context(), "dev", map[string]string{"team": "b"}, []string{"env"})
	if want := map[string]string{"team": "b"}; err != nil || !same(c.Labels, want) || !same(c.Assigned, want) {
		t.Fatalf("answer: %s, %v", text(c), err)
	}
	got, err := hub.Clusters(t.Context(), fleet.ClusterFilter{Selector: "team=b"})
	if err != nil || len(got) != 1 || !same(got[0], c) {
		t.Errorf("afterwards: %s, %v; want %s", text(got), err, text(c))
	}
}

func labelRefusals(t *testing.T, hub fleet.Hub, seed Seed) {
	for name, c := range map[string]struct {
		cluster string
		set     map[string]string
		remove  []string
		want    error
	}{
		"no such cluster":          {"nobody", map[string]string{"env": "x"}, nil, fleet.ErrNotFound},
		"declared":                 {"prod", map[string]string{"env": "dev"}, nil, fleet.ErrConflict},
		"declared, to be removed":  {"prod", nil, []string{"env"}, fleet.ErrConflict},
		"not assignable":           {"dev", map[string]string{"region": "x"}, nil, fleet.ErrConflict},
		"no label key":             {"dev", map[string]string{"a b": "x"}, nil, fleet.ErrInvalid},
		"no label value":           {"dev", map[string]string{"env": "a b"}, nil, fleet.ErrInvalid},
		"one good, one not a good": {"dev", map[string]string{"env": "x", "region": "x"}, nil, fleet.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := hub.LabelCluster(t.Context(), c.cluster, c.set, c.remove)
			is(t, err, c.want)
		})
	}
	if got, err := hub.Clusters(t.Context(), fleet.ClusterFilter{}); err != nil || !same(got, seed.Clusters) {
		t.Errorf("something changed: %s, %v", text(got), err)
	}
}

func labelsTogether(t *testing.T, hub fleet.Hub, seed Seed) {
	set := map[string]string{"team": "b"}
	for name, c := range map[string]struct {
		clusters []string
		set      map[string]string
		want     error
	}{
		"none":                     {nil, set, fleet.ErrInvalid},
		"more than can be":         {make([]string, fleet.MaxTogether+1), set, fleet.ErrInvalid},
		"one that is no name":      {[]string{"dev", "a.*"}, set, fleet.ErrInvalid},
		"one that is not known":    {[]string{"dev", "nobody"}, set, fleet.ErrNotFound},
		"one that declares it":     {[]string{"dev", "prod"}, map[string]string{"env": "x"}, fleet.ErrConflict},
		"a key that may not be so": {[]string{"dev", "staging"}, map[string]string{"region": "x"}, fleet.ErrConflict},
		"a value that is none":     {[]string{"dev", "staging"}, map[string]string{"team": "a b"}, fleet.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := hub.LabelClusters(t.Context(), c.clusters, c.set, nil)
			is(t, err, c.want)
		})
	}
	if got, err := hub.Clusters(t.Context(), fleet.ClusterFilter{}); err != nil || !same(got, seed.Clusters) {
		t.Fatalf("something changed: %s, %v", text(got), err)
	}
	names, err := hub.LabelClusters(t.Context(), []string{"staging", "dev", "staging"}, set, nil)
	if want := []string{"dev", "staging"}; err != nil || !same(names, want) {
		t.Fatalf("answer: %s, %v; want %s", text(names), err, text(want))
	}
	got, err := hub.Clusters(t.Context(), fleet.ClusterFilter{Selector: "team=b"})
	if err != nil || len(got) != 2 || got[0].Cluster != "dev" || got[1].Cluster != "staging" {
		t.Errorf("afterwards: %s, %v", text(got), err)
	}
	page, err := hub.Events(t.Context(), fleet.EventFilter{Actions: []string{"label"}})
	if err != nil || len(page.Items) != 2 || page.Items[0].Cluster == page.Items[1].Cluster {
		t.Errorf("events: %s, %v; want one of each cluster", text(page.Items), err)
	}
}

func joins(t *testing.T, hub fleet.Hub, _ Seed) {
	g, err := hub.Join(t.Context(), "edge-1", 90*time.Minute)
	if err != nil || g.Cluster != "edge-1" || g.Token == "" {
		t.Fatalf("answer: %s, %v", text(g), err)
	}
	if left := time.Until(g.Expires); left > 90*time.Minute || left < 80*time.Minute {
		t.Errorf("expires in %s", left)
	}
	_, err = hub.Join(t.Context(), "dev", time.Hour)
	is(t, err, fleet.ErrConflict)
	_, err = hub.Join(t.Context(), "edge.*", time.Hour)
	is(t, err, fleet.ErrInvalid)
	if fleet.Hint(err) == "" {
		t.Error("a bad name comes without the hint that says what a good one is")
	}
	_, err = hub.Join(t.Context(), "edge-2", -time.Hour)
	is(t, err, fleet.ErrInvalid)
}

func removes(t *testing.T, hub fleet.Hub, seed Seed) {
	if err := hub.RemoveCluster(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	got, err := hub.Clusters(t.Context(), fleet.ClusterFilter{})
	if err != nil || !same(got, seed.Clusters[1:]) {
		t.Errorf("clusters: %s, %v", text(got), err)
	}
	apps, err := hub.Apps(t.Context(), fleet.AppFilter{})
	if err != nil || !same(apps, seed.Apps[1:]) {
		t.Errorf("apps: %s, %v", text(apps), err)
	}
	is(t, hub.RemoveCluster(t.Context(), "dev"), fleet.ErrNotFound)
}

func plans(t *testing.T, hub fleet.Hub, seed Seed) {
	got, err := hub.Plan(t.Context(), "prod", Guestbook)
	want := seed.Plans[Key{"prod", Guestbook}]
	if err != nil || string(got.Plan) != string(want.Plan) || got.Key != want.Key || got.Signature != want.Signature {
		t.Errorf("plan: %s, %v; want %s", got.Plan, err, want.Plan)
	}
	_, err = hub.Plan(t.Context(), "dev", Guestbook) // nothing waits there
	is(t, err, fleet.ErrNotFound)
	_, err = hub.Plan(t.Context(), "staging", Guestbook)
	is(t, err, fleet.ErrNotFound)
}

func details(t *testing.T, hub fleet.Hub, seed Seed) {
	at := Key{"dev", Guestbook}
	history, err := hub.History(t.Context(), at.Cluster, at.App)
	if err != nil || !same(history, seed.History[at]) {
		t.Errorf("history: %s, %v", text(history), err)
	}
	tree, err := hub.Tree(t.Context(), at.Cluster, at.App)
	if err != nil || !same(tree, seed.Trees[at]) {
		t.Errorf("tree: %s, %v", text(tree), err)
	}
	if history, err = hub.History(t.Context(), "prod", Guestbook); err != nil || len(history) != 0 {
		t.Errorf("history of what has none: %s, %v", text(history), err)
	}
	_, err = hub.History(t.Context(), "staging", Guestbook)
	is(t, err, fleet.ErrNotFound)
	_, err = hub.Tree(t.Context(), "nobody", Guestbook)
	is(t, err, fleet.ErrNotFound)
}

func approval(cluster string) fleet.SignedApproval {
	statement, err := fleet.Canonical(fleet.Approval{
		Action: fleet.ActionApply, App: Guestbook.String(), Approver: "jane", Comment: "<looks> right & good",
		Targets:   []fleet.Target{{ClusterUID: "uid-" + cluster, Cluster: cluster, From: digestA, To: digestB, Plan: "plan-1"}},
		NotBefore: When, Expires: When.Add(time.Hour),
	})
	if err != nil {
		panic(err) // of constants
	}
	return fleet.SignedApproval{Statement: statement, Signature: "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"}
}

func approvals(t *testing.T, hub fleet.Hub, _ Seed) {
	if err := hub.Approve(t.Context(), approval("prod")); err != nil {
		t.Error(err)
	}
	is(t, hub.Approve(t.Context(), approval("nobody")), fleet.ErrNotFound)
	is(t, hub.Approve(t.Context(), fleet.SignedApproval{Statement: []byte("not JSON")}), fleet.ErrInvalid)
	is(t, hub.Approve(t.Context(), fleet.SignedApproval{Statement: []byte(`{"action":"dance"}`)}), fleet.ErrInvalid)
}

func rejections(t *testing.T, hub fleet.Hub, _ Seed) {
	if err := hub.Reject(t.Context(), "prod", Guestbook, "plan-1", "not <today>"); err != nil {
		t.Error(err)
	}
	is(t, hub.Reject(t.Context(), "prod", Guestbook, "plan-0", "old"), fleet.ErrNotFound)
	is(t, hub.Reject(t.Context(), "dev", Guestbook, "plan-1", "nothing waits"), fleet.ErrNotFound)
}

func syncs(t *testing.T, hub fleet.Hub, _ Seed) {
	for _, c := range []struct{ clusters, want []string }{
		{nil, []string{"dev", "prod"}},
		{[]string{"prod"}, []string{"prod"}},
	} {
		if got, err := hub.Sync(t.Context(), Guestbook, c.clusters); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("of %v were asked %v, %v; want %v", c.clusters, got, err, c.want)
		}
	}
	_, err := hub.Sync(t.Context(), Guestbook, []string{"staging"})
	is(t, err, fleet.ErrNotFound)
	_, err = hub.Sync(t.Context(), fleet.AppName{Namespace: "default", Name: "other"}, nil)
	is(t, err, fleet.ErrNotFound)
}

func badNames(t *testing.T, hub fleet.Hub, _ Seed) {
	ctx := t.Context()
	for _, bad := range []string{"", "*", "a.b", "..", "A", "a/b", "a?b", "a b"} {
		_, err := hub.LabelCluster(ctx, bad, map[string]string{"env": "x"}, nil)
		is(t, err, fleet.ErrInvalid)
		is(t, hub.RemoveCluster(ctx, bad), fleet.ErrInvalid)
		_, err = hub.Plan(ctx, bad, Guestbook)
		is(t, err, fleet.ErrInvalid)
		for _, app := range []fleet.AppName{{Namespace: bad, Name: "guestbook"}, {Namespace: "default", Name: bad}} {
			_, err = hub.History(ctx, "dev", app)
			is(t, err, fleet.ErrInvalid)
			_, err = hub.Tree(ctx, "dev", app)
			is(t, err, fleet.ErrInvalid)
			is(t, hub.Reject(ctx, "prod", app, "plan-1", ""), fleet.ErrInvalid)
			_, err = hub.Sync(ctx, app, nil)
			is(t, err, fleet.ErrInvalid)
		}
	}
}

func watches(t *testing.T, hub fleet.Hub, _ Seed) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := hub.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"", "one", "two"} { // the first word is how it is now
		if value != "" {
			if _, err := hub.LabelCluster(ctx, "dev", map[string]string{"env": value}, nil); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case _, open := <-changes:
			if !open {
				t.Fatal("the watch ended by itself")
			}
		case <-time.After(patience):
			t.Fatalf("no word of the change to %q", value)
		}
	}
	cancel()
	for end := time.After(patience); ; {
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-end:
			t.Fatal("the watch goes on after its context has ended")
		}
	}
}
