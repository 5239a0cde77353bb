package view_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

const every = 10 * time.Second

// sample has dev (fresh), prod (declares env, refuses its assignment) and edge
// (silent).
func sample() *view.View {
	v := view.New()
	v.Heard("dev", fleet.ClusterReport{Assignable: []string{"env"}, Interval: every}, now)
	v.Assigned("dev", map[string]string{"env": "dev", "tier": "gold"})
	v.Heard("prod", fleet.ClusterReport{Declared: map[string]string{"env": "prod"}, Assignable: []string{"env", "zone"}, Interval: every}, now.Add(-30*time.Second))
	v.Assigned("prod", map[string]string{"env": "dev", "zone": "b"})
	v.Heard("edge", fleet.ClusterReport{Interval: every}, now.Add(-31*time.Second))
	v.Reported("dev", app("shop", "web", fleet.Synced, fleet.Degraded))
	v.Reported("dev", app("shop", "api", fleet.Synced, fleet.Healthy))
	v.Reported("dev", app("ops", "web", fleet.OutOfSync, fleet.Progressing))
	v.Reported("prod", app("shop", "web", fleet.Pending, fleet.Healthy))
	v.Reported("edge", app("shop", "web", fleet.Synced, fleet.Healthy))
	return v
}

func app(ns, name string, sync fleet.Sync, health fleet.Health) fleet.AppStatus {
	return fleet.AppStatus{Namespace: ns, App: name, Sync: sync, Health: health}
}

func TestClustersAreFilteredByWhatSelects(t *testing.T) {
	for _, c := range []struct {
		filter fleet.ClusterFilter
		want   string
	}{
		{fleet.ClusterFilter{}, "dev edge prod"},
		{fleet.ClusterFilter{Selector: "env=dev"}, "dev"},
		{fleet.ClusterFilter{Selector: "env=prod"}, "prod"},
		{fleet.ClusterFilter{Selector: "env in (dev,prod),zone"}, "prod"},
		{fleet.ClusterFilter{Selector: "!env"}, "edge"},
		{fleet.ClusterFilter{Selector: "tier=gold"}, ""}, // assigned, but not assignable there
		{fleet.ClusterFilter{Names: []string{"prod", "dev", "dev", "nowhere"}}, "dev prod"},
		{fleet.ClusterFilter{Names: []string{"prod"}, Selector: "env=dev"}, ""},
		{fleet.ClusterFilter{Names: []string{"nowhere"}}, ""},
	} {
		got, err := sample().Clusters(c.filter, now)
		if err != nil {
			t.Errorf("%+v: %v", c.filter, err)
		}
		var names []string
		for _, g := range got {
			names = append(names, g.Cluster)
		}
		if strings.Join(names, " ") != c.want || got == nil {
			t.Errorf("%+v: got %v, want %s", c.filter, names, c.want)
		}
	}
}

func TestAppsAreFilteredAndInOrder(t *testing.T) {
	for _, c := range []struct {
		filter fleet.AppFilter
		want   string
	}{
		{fleet.AppFilter{}, "dev/ops/web dev/shop/api dev/shop/web edge/shop/web prod/shop/web"},
		{fleet.AppFilter{Name: "web", Namespace: "shop"}, "dev/shop/web edge/shop/web prod/shop/web"},
		{fleet.AppFilter{Name: "web"}, "dev/ops/web dev/shop/web edge/shop/web prod/shop/web"},
		{fleet.AppFilter{Selector: "env=prod"}, "prod/shop/web"},
		{fleet.AppFilter{Clusters: []string{"edge", "nowhere"}}, "edge/shop/web"},
		{fleet.AppFilter{Clusters: []string{"edge"}, Name: "api"}, ""},
	} {
		got, err := sample().Apps(c.filter, now)
		if err != nil {
			t.Errorf("%+v: %v", c.filter, err)
		}
		var names []string
		for _, g := range got {
			names = append(names, g.Cluster+"/"+g.Name().String())
		}
		if strings.Join(names, " ") != c.want || got == nil {
			t.Errorf("%+v: got %v, want %s", c.filter, names, c.want)
		}
	}
}

func TestABadSelectorIsInvalidAndSaysHow(t *testing.T) {
	for _, s := range []string{"a in", "a=b=c", "-"} {
		if _, err := sample().Apps(fleet.AppFilter{Selector: s}, now); !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" {
			t.Errorf("apps %q: got %v, want ErrInvalid with a hint", s, err)
		}
		if _, err := sample().Clusters(fleet.ClusterFilter{Selector: s}, now); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("clusters %q: got %v, want ErrInvalid", s, err)
		}
	}
}

func TestLabelsAreDeclaredOverAssignable(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"dev":  {"env": "dev"},               // tier is not assignable
		"prod": {"env": "prod", "zone": "b"}, // env is declared
		"edge": {},
	} {
		c, ok := sample().Cluster(name, now)
		if !ok || !reflect.DeepEqual(c.Labels, want) {
			t.Errorf("%s: got %v, want %v", name, c.Labels, want)
		}
	}
}

func TestSilenceIsShownAsStaleNeverAsGreen(t *testing.T) {
	v := sample()
	if got := v.Stale(now); !reflect.DeepEqual(got, []string{"edge"}) {
		t.Errorf("stale: %v", got)
	}
	apps, err := v.Apps(fleet.AppFilter{Clusters: []string{"edge"}}, now)
	if err != nil || len(apps) != 1 {
		t.Fatal(apps, err)
	}
	if a := apps[0]; !a.Stale || a.Sync != fleet.SyncUnknown || a.Health != fleet.HealthUnknown {
		t.Errorf("got %+v", a)
	}
	c, _ := v.Cluster("edge", now)
	if !c.Stale || c.Apps.Synced != 0 || c.Apps.Total != 1 {
		t.Errorf("got %+v", c)
	}
	// A heartbeat, and what was reported counts again.
	v.Heard("edge", fleet.ClusterReport{Interval: every}, now)
	apps, err = v.Apps(fleet.AppFilter{Clusters: []string{"edge"}}, now)
	if err != nil || apps[0].Stale || apps[0].Sync != fleet.Synced || apps[0].Health != fleet.Healthy {
		t.Errorf("got %+v, %v", apps, err)
	}
}

func TestAClusterNeverHeardOfIsStale(t *testing.T) {
	v := view.New()
	v.Enrolled("new")
	if c, ok := v.Cluster("new", now); !ok || !c.Stale || !c.LastSeen.IsZero() {
		t.Errorf("got %+v", c)
	}
}

func TestAppsAreCounted(t *testing.T) {
	c, _ := sample().Cluster("dev", now)
	if want := (fleet.AppCounts{Total: 3, Synced: 2, Degraded: 1}); c.Apps != want {
		t.Errorf("dev: got %+v, want %+v", c.Apps, want)
	}
	c, _ = sample().Cluster("prod", now)
	if want := (fleet.AppCounts{Total: 1, Pending: 1}); c.Apps != want {
		t.Errorf("prod: got %+v, want %+v", c.Apps, want)
	}
}

func TestWhatIsGoneIsNotThere(t *testing.T) {
	v := sample()
	v.Gone("dev", fleet.AppName{Namespace: "shop", Name: "web"})
	v.Gone("nowhere", fleet.AppName{Namespace: "shop", Name: "web"})
	if got, err := v.Apps(fleet.AppFilter{Clusters: []string{"dev"}}, now); err != nil || len(got) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	v.Removed("dev")
	if _, ok := v.Cluster("dev", now); ok {
		t.Error("a removed cluster is there")
	}
}

// An agent's words end up in a terminal.
func TestTextThatDrivesATerminalIsTakenOut(t *testing.T) {
	v := view.New()
	evil := "red \x1b[31malert\x07\u202e\nline\ttab"
	s := app("shop", "web", fleet.Synced, fleet.Healthy)
	s.Message, s.Hint, s.Revision, s.Path = evil, evil, fleet.Revision(evil), evil
	s.Pending = &fleet.PendingPlan{Plan: evil, Revision: fleet.Revision(evil), Gate: fleet.Gate(evil)}
	s.Drift = []fleet.DriftSummary{{Object: fleet.ObjectRef{Kind: evil, Name: evil}, Manager: evil, Fields: []string{evil}}}
	s.Holds = []fleet.Hold{{Kind: fleet.HoldKind(evil), By: evil, Why: evil, Refused: evil, Revision: fleet.Revision(evil), Digest: fleet.Digest(evil)}}
	from := fleet.SourceStatus{URL: evil, Follows: evil, Head: fleet.Revision(evil), ServedBy: evil, Message: evil}
	s.Source = &from
	v.Heard("dev", fleet.ClusterReport{AgentVersion: evil, KubernetesVersion: evil, Message: evil, Head: fleet.Revision(evil), UID: evil, Sources: []fleet.SourceStatus{from}, Interval: every}, now)
	v.Reported("dev", s)
	apps, err := v.Apps(fleet.AppFilter{}, now)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := v.Cluster("dev", now)
	shown := apps[0]
	texts := []string{
		shown.Message, shown.Hint, string(shown.Revision), shown.Path, shown.Pending.Plan, string(shown.Pending.Revision), string(shown.Pending.Gate),
		shown.Drift[0].Object.Kind, shown.Drift[0].Object.Name, shown.Drift[0].Manager, shown.Drift[0].Fields[0],
		string(shown.Holds[0].Kind), shown.Holds[0].By, shown.Holds[0].Why, shown.Holds[0].Refused, string(shown.Holds[0].Revision), string(shown.Holds[0].Digest),
		c.AgentVersion, c.KubernetesVersion, c.Message, string(c.Head), c.UID,
		shown.Source.URL, shown.Source.ServedBy, c.Sources[0].URL, c.Sources[0].Follows, string(c.Sources[0].Head), c.Sources[0].ServedBy, c.Sources[0].Message,
	}
	for i, text := range texts {
		if strings.ContainsAny(text, "\x1b\x07\u202e") || !strings.Contains(text, "alert") {
			t.Errorf("text %d: %q", i, text)
		}
	}
}

func TestWhatIsHandedOutCanBeChanged(t *testing.T) {
	v := sample()
	c, _ := v.Cluster("dev", now)
	c.Labels["env"], c.Assigned["env"] = "x", "x"
	if again, _ := v.Cluster("dev", now); again.Labels["env"] != "dev" || again.Assigned["env"] != "dev" {
		t.Errorf("got %+v", again)
	}
}
