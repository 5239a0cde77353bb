package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

func TestThePageOfEventsTellsWhoChangedWhat(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	ctx := fleet.WithActor(t.Context(), "jane")
	if _, err := hub.LabelCluster(ctx, "staging", map[string]string{"env": "dev"}, nil); err != nil {
		t.Fatal(err)
	}
	s := serve(t, hub)
	s.atNow()
	_, body := s.get(t, "/events", "see")
	has(t, read(body), "Events", "label", "jane", "staging")
	has(t, body, `href="/clusters/staging"`)
	if _, body := s.get(t, "/events?cluster=dev", "see"); strings.Contains(body, "jane</td>") {
		t.Error("another cluster's event is shown")
	}
	_, body = s.get(t, "/events?cluster=nope", "see")
	has(t, read(body), "Nobody changed anything in the last 7 days.", "Show all")
	res, body := s.get(t, "/events?cluster=%3Cscript%3E", "see")
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("status %s", res.Status)
	}
	hasNot(t, body, "<script>", "sse-connect")

	next := s.events(t, "/live/events")
	next()
	if _, err := hub.Sync(ctx, fleettest.Guestbook, []string{"dev"}); err != nil {
		t.Fatal(err)
	}
	_, data := next()
	has(t, data, "sync", `href="/apps/default/guestbook"`)
	if strings.Index(data, ">sync<") > strings.Index(data, ">label<") {
		t.Error("the newest is not first")
	}
}

func TestThePageOfEventsHasTheNewest(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	ctx := fleet.WithActor(t.Context(), "jane")
	for i := range 210 {
		if _, err := hub.LabelCluster(ctx, "staging", map[string]string{"env": fmt.Sprintf("n%d", i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, hub)
	s.atNow()
	_, body := s.get(t, "/events", "see")
	if n := strings.Count(body, `scope="row">label`); n != 200 {
		t.Errorf("%d events are shown", n)
	}
	has(t, body, `id="event.210.cluster"`, `id="event.11.cluster"`, "These are the newest.")
	hasNot(t, body, `id="event.10.cluster"`)
}
