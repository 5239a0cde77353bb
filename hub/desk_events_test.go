package hub_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// running is a report of an app at a revision.
func running(epoch, seq uint64, name, commit string, drift ...string) wire.Report {
	s := fleet.AppStatus{Namespace: "shop", App: name, Sync: fleet.Synced, Health: fleet.Healthy, Revision: fleet.NewRevision("main", commit), Digest: fleet.Digest("sha256:" + commit)}
	for _, d := range drift {
		s.Drift = append(s.Drift, fleet.DriftSummary{Object: fleet.ObjectRef{Kind: "ConfigMap", Version: "v1", Name: d}, Manager: "kubectl-edit", Fields: []string{"/data/a"}, Since: start})
	}
	return wire.Report{Epoch: epoch, Seq: seq, App: &s}
}

func (o *office) changes(t *testing.T, f fleet.EventFilter) string {
	t.Helper()
	page, err := o.Changes(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range page.Items {
		var before, after struct{ Revision fleet.Revision }
		for raw, to := range map[*json.RawMessage]any{&e.Before: &before, &e.After: &after} {
			if len(*raw) > 0 {
				if err := json.Unmarshal(*raw, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		if e.Actor != "agent" {
			t.Errorf("%+v", e)
		}
		out = append(out, fmt.Sprintf("%s %s %s>%s", e.Action, e.App, before.Revision.Commit(), after.Revision.Commit()))
	}
	return strings.Join(out, ", ")
}

func TestWhatChangesOnAClusterIsKept(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	report := func(r wire.Report) {
		t.Helper()
		if err := o.spokes.Report(t.Context(), "dev", r); err != nil {
			t.Fatal(err)
		}
	}
	report(running(1, 1, "web", "a")) // was there before it joined: no news
	if err := o.spokes.Resent(t.Context(), "dev", wire.Resent{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	report(running(1, 2, "web", "a"))
	o.clock.pass(time.Hour)
	report(running(1, 3, "web", "b"))
	report(running(1, 4, "api", "b")) // new
	report(running(1, 5, "web", "b", "x"))
	report(running(1, 6, "web", "b", "x")) // still the same drift
	report(running(1, 7, "web", "b"))
	report(running(1, 8, "web", "b", "x", "y"))
	report(wire.Report{Epoch: 1, Seq: 9, Gone: &fleet.AppName{Namespace: "shop", Name: "api"}})
	const want = "applied shop/web a>b, applied shop/api >b, drifted shop/web >, drifted shop/web >, gone shop/api b>"
	if got := o.changes(t, fleet.EventFilter{}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := o.changes(t, fleet.EventFilter{Actions: []string{"drifted"}, Since: start.Add(time.Minute)}); !strings.HasPrefix(got, "drifted shop/web >, drifted") {
		t.Errorf("what drifted: %s", got)
	}
	if got := o.changes(t, fleet.EventFilter{Until: start.Add(time.Minute)}); got != "" {
		t.Errorf("before: %s", got)
	}
	// A hub that starts again knows what ran, and tells the next change from it.
	o = o.open(t)
	o.beat(t, "dev", 2)
	report = func(r wire.Report) {
		t.Helper()
		if err := o.spokes.Report(t.Context(), "dev", r); err != nil {
			t.Fatal(err)
		}
	}
	report(running(2, 1, "web", "b", "x", "y"))
	report(running(2, 2, "web", "c"))
	if got := o.changes(t, fleet.EventFilter{}); got != want+", applied shop/web b>c" {
		t.Errorf("after a restart: %s", got)
	}
}

func TestEventsSayWhoFromWhereBeforeAndAfter(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	ctx := fleet.WithOrigin(fleet.WithIdentity(t.Context(), fleet.Identity{Via: fleet.ViaOIDC, Name: "ada"}), "192.0.2.7")
	for _, v := range []string{"one", "two"} {
		if _, err := o.LabelCluster(ctx, "dev", map[string]string{"env": v}, nil); err != nil {
			t.Fatal(err)
		}
	}
	page, err := o.Events(t.Context(), fleet.EventFilter{Actor: "ada"})
	if err != nil || len(page.Items) != 2 {
		t.Fatal(page, err)
	}
	e := page.Items[1]
	if e.From != "192.0.2.7" || e.Via != "oidc" || e.Cluster != "dev" || !e.At.Equal(start) || string(e.Before) != `{"env":"one"}` || string(e.After) != `{"env":"two"}` {
		t.Errorf("%+v: %s -> %s", e, e.Before, e.After)
	}
	if err := o.RemoveCluster(ctx, "dev"); err != nil {
		t.Fatal(err)
	}
	page, err = o.Events(t.Context(), fleet.EventFilter{Actions: []string{"remove-cluster"}})
	if err != nil || len(page.Items) != 1 || !strings.Contains(string(page.Items[0].Before), `"assigned":{"env":"two"}`) {
		t.Errorf("%s, %v", page.Items[0].Before, err)
	}
}
