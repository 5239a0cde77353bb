package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Conform shows that a hub behaves as fleet.Hub promises. open returns one whose
// fleet is seed; it is called for every test anew.
func Conform(t *testing.T, open func(t *testing.T, seed Seed) fleet.Hub) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, fleet.Hub, Seed){
		"clusters are listed by name and filtered": clusters,
		"apps are listed in order and filtered":    apps,
		"labels are assigned and removed":          labels,
		"labels that may not change":               labelRefusals,
		"many clusters are labelled at once":       labelsTogether,
		"joining":                                  joins,
		"a removed cluster is forgotten":           removes,
		"a plan arrives byte for byte":             plans,
		"history and tree":                         details,
		"approving":                                approvals,
		"rejecting":                                rejections,
		"syncing":                                  syncs,
		"suspending":                               suspends,
		"rolling back":                             rollbacks,
		"resuming":                                 resumesApps,
		"names that are none are refused":          badNames,
		"a watch tells of changes and ends":        watches,
		"a watch goes on where one ended":          resumes,
		"events tell who did what":                 events,
		"events come in pages":                     eventPages,
		"changes tell what happened on clusters":   changes,
	} {
		t.Run(name, func(t *testing.T) {
			seed := Sample()
			test(t, open(t, seed), seed)
		})
	}
}

// ConformErrors shows that what wraps a hub hands its errors on: the kind, the
// text and the hint. open returns the wrapped hub.
func ConformErrors(t *testing.T, open func(t *testing.T, inner *Hub) fleet.Hub) {
	t.Helper()
	for _, kind := range kinds {
		want := fmt.Errorf("agent of dev: %w, <it> said", kind)
		t.Run(kind.Error(), func(t *testing.T) {
			inner := NewHub(Sample())
			hub := open(t, inner)
			for _, hint := range []string{"", "do this & that"} {
				inner.Fail(fleet.WithHint(want, hint))
				for method, err := range everything(t.Context(), hub) {
					if err == nil || err.Error() != want.Error() || fleet.Hint(err) != hint {
						t.Errorf("%s: error %v (hint %q), want %v (hint %q)", method, err, fleet.Hint(err), want, hint)
					}
					is(t, err, kind)
				}
			}
		})
	}
}

var kinds = []error{fleet.ErrInvalid, fleet.ErrForbidden, fleet.ErrNotFound, fleet.ErrConflict, fleet.ErrUnavailable}

// everything calls every method with what is good for it.
func everything(ctx context.Context, hub fleet.Hub) map[string]error {
	errs := map[string]error{}
	_, errs["Clusters"] = hub.Clusters(ctx, fleet.ClusterFilter{})
	_, errs["Apps"] = hub.Apps(ctx, fleet.AppFilter{})
	_, errs["LabelCluster"] = hub.LabelCluster(ctx, "dev", map[string]string{"env": "x"}, nil)
	_, errs["LabelClusters"] = hub.LabelClusters(ctx, []string{"dev"}, map[string]string{"env": "x"}, nil)
	_, errs["Join"] = hub.Join(ctx, "new", time.Hour)
	errs["RemoveCluster"] = hub.RemoveCluster(ctx, "dev")
	_, errs["Plan"] = hub.Plan(ctx, "prod", Guestbook)
	_, errs["History"] = hub.History(ctx, "dev", Guestbook)
	_, errs["Tree"] = hub.Tree(ctx, "dev", Guestbook)
	errs["Approve"] = hub.Approve(ctx, approval("prod"))
	errs["Reject"] = hub.Reject(ctx, "prod", Guestbook, "plan-1", "")
	_, errs["Sync"] = hub.Sync(ctx, Guestbook, nil)
	_, errs["Suspend"] = hub.Suspend(ctx, Guestbook, nil, "")
	_, errs["Rollback"] = hub.Rollback(ctx, "dev", Guestbook, fleet.RollbackTo{})
	_, errs["Resume"] = hub.Resume(ctx, Guestbook, nil, "")
	_, errs["Events"] = hub.Events(ctx, fleet.EventFilter{})
	_, errs["Changes"] = hub.Changes(ctx, fleet.EventFilter{})
	_, errs["Watch"] = hub.Watch(ctx, "")
	return errs
}

func clusters(t *testing.T, hub fleet.Hub, seed Seed) {
	for name, c := range map[string]struct {
		filter fleet.ClusterFilter
		want   []int // of the seed's
	}{
		"all":                  {fleet.ClusterFilter{}, []int{0, 1, 2}},
		"by label":             {fleet.ClusterFilter{Selector: "env=prod"}, []int{1}},
		"by absence of label":  {fleet.ClusterFilter{Selector: "!env"}, []int{2}},
		"by two terms":         {fleet.ClusterFilter{Selector: "env,env!=dev"}, []int{1}},
		"by name":              {fleet.ClusterFilter{Names: []string{"staging", "dev"}}, []int{0, 2}},
		"by a name nobody has": {fleet.ClusterFilter{Names: []string{"nobody"}}, nil},
	} {
		got, err := hub.Clusters(t.Context(), c.filter)
		want := []fleet.Cluster{}
		for _, i := range c.want {
			want = append(want, seed.Clusters[i])
		}
		if err != nil || !same(got, want) {
			t.Errorf("%s: %s, %v; want %s", name, text(got), err, text(want))
		}
	}
	_, err := hub.Clusters(t.Context(), fleet.ClusterFilter{Selector: "=,="})
	is(t, err, fleet.ErrInvalid)
}

func apps(t *testing.T, hub fleet.Hub, seed Seed) {
	for name, c := range map[string]struct {
		filter fleet.AppFilter
		want   []int
	}{
		"all":            {fleet.AppFilter{}, []int{0, 1}},
		"by label":       {fleet.AppFilter{Selector: "env=prod"}, []int{1}},
		"by cluster":     {fleet.AppFilter{Clusters: []string{"dev"}}, []int{0}},
		"by clusters":    {fleet.AppFilter{Clusters: []string{"prod", "dev"}}, []int{0, 1}},
		"by namespace":   {fleet.AppFilter{Namespace: "default"}, []int{0, 1}},
		"by no such one": {fleet.AppFilter{Namespace: "other"}, nil},
		"by name":        {fleet.AppFilter{Name: "guestbook", Clusters: []string{"prod"}}, []int{1}},
		"by revision":    {fleet.AppFilter{Revision: "22222222"}, []int{0}},
		"by whole one":   {fleet.AppFilter{Revision: string(revA)}, []int{1}},
		"by no revision": {fleet.AppFilter{Revision: "3333333"}, nil},
		"by image":       {fleet.AppFilter{Image: "*/guestbook:*"}, []int{0, 1}},
		"by its tag":     {fleet.AppFilter{Image: "registry.example.com/guestbook:v2"}, []int{0}},
		"by sync":        {fleet.AppFilter{Sync: fleet.Synced}, []int{0}},
		"by health":      {fleet.AppFilter{Health: fleet.Degraded}, nil},
		"what waits":     {fleet.AppFilter{Pending: true}, []int{1}},
		"what drifted":   {fleet.AppFilter{Drifted: true}, []int{0}},
	} {
		got, err := hub.Apps(t.Context(), c.filter)
		want := []fleet.AppStatus{}
		for _, i := range c.want {
			want = append(want, seed.Apps[i])
		}
		if err != nil || !same(got, want) {
			t.Errorf("%s: %s, %v; want %s", name, text(got), err, text(want))
		}
	}
	for _, bad := range []fleet.AppFilter{{Selector: "=,="}, {Revision: "main"}, {Revision: "22"}, {Sync: "Well"}, {Health: "Fine"}} {
		_, err := hub.Apps(t.Context(), bad)
		is(t, err, fleet.ErrInvalid)
	}
}

func same(a, b any) bool { return text(a) == text(b) }

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want one that is %v", err, want)
	}
}
