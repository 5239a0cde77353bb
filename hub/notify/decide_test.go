package notify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func routes(t *testing.T, text string) []notify.Route {
	t.Helper()
	c, err := notify.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c.Routes
}

// desk plays a fleet, and somebody who sends.
type desk struct {
	routes []notify.Route
	memory *notify.Memory
	state  notify.State
	now    time.Time
	broken bool
	after  time.Duration
	told   []string
}

func newDesk(t *testing.T, route string, apps ...fleet.AppStatus) *desk {
	t.Helper()
	d := &desk{routes: routes(t, "routes:\n- {name: r, webhook: {url: 'http://h/'}, "+route+"}"), memory: notify.NewMemory(), now: start}
	d.state.Clusters = []fleet.Cluster{{Cluster: "dev", Labels: map[string]string{"env": "dev"}}, {Cluster: "prod", Labels: map[string]string{"env": "prod"}}}
	d.state.Apps = apps
	return d
}

func app(cluster, name string) fleet.AppStatus {
	return fleet.AppStatus{Cluster: cluster, Namespace: "team-a", App: name, Revision: "main@sha1:aaaaaaaaaaaa", Digest: "sha256:a", Sync: fleet.Synced, Health: fleet.Healthy}
}

// look lets time pass, and sends what is to be sent.
func (d *desk) look(pass time.Duration) {
	d.now = d.now.Add(pass)
	for _, m := range d.memory.Decide(d.routes, d.state, d.now).Messages {
		if d.broken {
			d.memory.Failed(m, d.now, d.after)
			d.told = append(d.told, "failed")
			continue
		}
		d.memory.Delivered(m, d.now)
		word := m.Subject() + " " + string(m.Trigger)
		if m.Resolved {
			word += " resolved"
		}
		d.told = append(d.told, word)
	}
}

func (d *desk) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(d.told, want) {
		t.Errorf("told %q, want %q", d.told, want)
	}
	d.told = nil
}

func TestAStateIsToldOnceItHolds(t *testing.T) {
	d := newDesk(t, "on: [degraded], for: 2m, resolved: true", app("dev", "web"))
	web := &d.state.Apps[0]
	d.look(0)
	web.Health = fleet.Degraded
	d.look(time.Second)
	d.look(time.Minute)
	d.want(t)
	d.look(time.Minute)
	d.want(t, "dev/team-a/web degraded")
	d.look(time.Hour)
	d.want(t)
	web.Health = fleet.Healthy
	d.look(time.Second)
	web.Health = fleet.Degraded // back before anybody could believe it was over
	d.look(time.Minute)
	web.Health = fleet.Healthy
	d.look(time.Second)
	d.look(time.Minute)
	d.want(t)
	d.look(time.Minute)
	d.want(t, "dev/team-a/web degraded resolved")
	d.look(time.Hour)
	d.want(t)
}

func TestWhatHealsByItselfIsNotTold(t *testing.T) {
	d := newDesk(t, "on: [drift, degraded], resolved: true", app("dev", "web"))
	web := &d.state.Apps[0]
	web.Drift = []fleet.DriftSummary{{Object: fleet.ObjectRef{Kind: "Service", Name: "web"}}}
	d.look(0)
	web.Drift = nil
	d.look(30 * time.Second)
	d.look(time.Hour)
	d.want(t)
}

func TestAnotherPlanIsAnotherMessage(t *testing.T) {
	d := newDesk(t, "on: [pending]", app("prod", "web"))
	web := &d.state.Apps[0]
	web.Pending = &fleet.PendingPlan{Plan: "one", Gate: fleet.GateApproval}
	d.look(0)
	web.Pending = &fleet.PendingPlan{Plan: "one", Gate: fleet.GateApproval, Have: 1}
	d.look(time.Second)
	d.want(t, "prod/team-a/web pending")
	web.Pending = &fleet.PendingPlan{Plan: "two"}
	d.look(time.Second)
	d.want(t, "prod/team-a/web pending")
	web.Pending = nil
	d.look(time.Second)
	d.look(time.Hour)
	d.want(t) // resolved was not asked for
}

func TestSyncedTellsOfNewRevisionsOnly(t *testing.T) {
	d := newDesk(t, "on: [synced]", app("dev", "web"))
	web := &d.state.Apps[0]
	d.look(0)
	d.look(time.Hour)
	d.want(t)
	web.Sync = fleet.OutOfSync
	d.look(time.Second)
	web.Sync = fleet.Synced // healed, the same revision
	d.look(time.Second)
	d.want(t)
	web.Revision, web.Sync = "main@sha1:bbbbbbbbbbbb", fleet.OutOfSync
	d.look(time.Second)
	d.want(t)
	web.Sync = fleet.Synced
	d.look(time.Second)
	d.look(time.Second)
	d.want(t, "dev/team-a/web synced")
}

func TestOfASilentClusterNothingBeginsAndNothingEnds(t *testing.T) {
	d := newDesk(t, "on: [degraded, stale], for: 1s, resolved: true", app("dev", "web"))
	web, dev := &d.state.Apps[0], &d.state.Clusters[0]
	web.Health = fleet.Degraded
	d.look(0)
	d.look(time.Second)
	d.want(t, "dev/team-a/web degraded")
	dev.Stale, web.Stale, web.Health = true, true, fleet.HealthUnknown
	d.look(0)
	d.look(time.Hour)
	d.want(t, "dev stale")
	dev.Stale, web.Stale, web.Health = false, false, fleet.Degraded
	d.look(0)
	d.look(time.Hour)
	d.want(t, "dev stale resolved")
}

func TestWhatIsGoneIsOver(t *testing.T) {
	d := newDesk(t, "on: [degraded, synced], for: 1s, resolved: true", app("dev", "web"))
	d.state.Apps[0].Health = fleet.Degraded
	d.look(0)
	d.look(time.Second)
	d.state.Apps = nil
	d.look(time.Second)
	d.look(time.Hour)
	d.want(t, "dev/team-a/web degraded", "dev/team-a/web degraded resolved")
	if data, err := d.memory.Written("dev.team-a.web"); err != nil || data != nil {
		t.Errorf("still known: %s, %v", data, err)
	}
}

func TestARouteTellsOfWhatItSelects(t *testing.T) {
	d := newDesk(t, "on: [degraded], for: 1s, clusters: env=prod, apps: ['team-a/w*']", app("dev", "web"), app("prod", "web"), app("prod", "db"))
	for i := range d.state.Apps {
		d.state.Apps[i].Health = fleet.Degraded
	}
	d.look(0)
	d.look(time.Second)
	d.want(t, "prod/team-a/web degraded")
}

func TestARestartTellsNothingAgain(t *testing.T) {
	d := newDesk(t, "on: [degraded, synced], for: 1s, resolved: true", app("dev", "web"))
	web := &d.state.Apps[0]
	d.look(0)
	web.Health = fleet.Degraded
	d.look(0)
	d.look(time.Second)
	d.want(t, "dev/team-a/web degraded")
	restart := func() {
		data, err := d.memory.Written("dev.team-a.web")
		if err != nil {
			t.Fatal(err)
		}
		d.memory = notify.NewMemory()
		if data != nil {
			if err := d.memory.Recall("dev.team-a.web", data); err != nil {
				t.Fatal(err)
			}
		}
	}
	restart()
	d.look(time.Second)
	d.look(time.Hour)
	d.want(t)
	restart()
	web.Health, web.Revision = fleet.Healthy, "main@sha1:bbbbbbbbbbbb" // while nobody looked
	d.look(time.Second)
	d.want(t)
	d.look(time.Second)
	d.want(t, "dev/team-a/web synced")
	d.look(time.Hour)
	d.want(t, "dev/team-a/web degraded resolved")
}

func TestFailuresAreTriedAgainWithPauses(t *testing.T) {
	d := newDesk(t, "on: [pending]", app("dev", "web"))
	d.state.Apps[0].Pending = &fleet.PendingPlan{Plan: "one"}
	d.broken = true
	d.look(0)
	for range 59 {
		d.look(time.Second)
	}
	d.want(t, "failed", "failed", "failed") // at 0, 10 and 30 s
	d.after = time.Hour                     // the other side says so
	d.look(11 * time.Second)
	d.want(t, "failed")
	d.look(59 * time.Minute)
	d.broken = false
	d.want(t)
	d.look(time.Minute)
	d.want(t, "dev/team-a/web pending")
	d.look(time.Hour)
	d.want(t)
}

func TestABudgetHoldsBackAndForgetsNothing(t *testing.T) {
	var apps []fleet.AppStatus
	for i := range 30 {
		a := app("dev", fmt.Sprintf("web%02d", i))
		a.Pending = &fleet.PendingPlan{Plan: "p"}
		apps = append(apps, a)
	}
	d := newDesk(t, "on: [pending], perHour: 60", apps...)
	d.look(0)
	if len(d.told) != 20 {
		t.Errorf("told %d at once, want 20", len(d.told))
	}
	for range 20 {
		d.look(time.Minute)
	}
	slices.Sort(d.told)
	if n := len(slices.Compact(d.told)); n != 30 {
		t.Errorf("told of %d apps, want 30", n)
	}
}

func TestAlertsAreRepeatedWhileTheyLast(t *testing.T) {
	d := newDesk(t, "on: [pending]", app("dev", "web"))
	d.routes = routes(t, "routes: [{name: r, on: [degraded], for: 1s, alertmanager: {url: 'http://am:9093'}}]")
	d.state.Apps[0].Health = fleet.Degraded
	for range 60 {
		d.look(time.Minute)
	}
	if len(d.told) != 3 {
		t.Errorf("told %d times in an hour, want 3", len(d.told))
	}
	d.told = nil
	d.state.Apps[0].Health = fleet.Healthy
	d.look(0)
	d.look(time.Minute)
	d.want(t, "dev/team-a/web degraded resolved")
}

func TestMessagesHaveOneIDForOneThing(t *testing.T) {
	d := newDesk(t, "on: [pending]", app("dev", "web"))
	d.state.Apps[0].Pending = &fleet.PendingPlan{Plan: "one", Gate: fleet.GateApproval, Need: 2, Revision: "main@sha1:cccccccccccc"}
	d.state.URL = "https://hub.example.com/"
	first := d.memory.Decide(d.routes, d.state, start).Messages[0]
	d.memory.Failed(first, start, 0)
	second := d.memory.Decide(d.routes, d.state, start.Add(time.Minute)).Messages[0]
	if first.ID == "" || first.ID != second.ID {
		t.Errorf("ids %q and %q", first.ID, second.ID)
	}
	if first.URL != "https://hub.example.com/clusters/dev/team-a/web" || first.Title() != "dev/team-a/web waits for approval (0 of 2)" || first.Revision != "main@sha1:cccccccccccc" {
		t.Errorf("got %+v, %q", first, first.Title())
	}
}

func FuzzRecall(f *testing.F) {
	f.Add("dev.team-a.web", `{"r/pending":{"mark":"one","since":"2026-03-01T12:00:00Z","owed":true}}`)
	f.Add("dev", `{"r/stale":null,"":{},"x":{}}`)
	f.Fuzz(func(t *testing.T, subject, data string) {
		m := notify.NewMemory()
		if m.Recall(subject, []byte(data)) != nil || strings.Contains(subject, " ") {
			return
		}
		c, err := notify.Parse("t", []byte("routes: [{name: r, on: [pending, stale], resolved: true, webhook: {url: 'http://h/'}}]"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			for _, msg := range m.Decide(c.Routes, notify.State{}, start.Add(time.Duration(i)*time.Hour)).Messages {
				m.Delivered(msg, start)
			}
		}
	})
}
