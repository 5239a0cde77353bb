package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

func TestAPageIsSentAnewWhenSomethingChanges(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	s := serve(t, hub)
	for _, path := range []string{"/live/", "/live/clusters/prod", "/live/apps/default/guestbook", "/live/clusters/prod/default/guestbook"} {
		t.Run(path, func(t *testing.T) {
			status := fleettest.Sample().Apps[1]
			hub.SetApp(status)
			next := s.events(t, path)
			if event, data := next(); event != "live" || !strings.Contains(data, "Pending") || strings.Contains(data, "<html") {
				t.Errorf("at first: %s\n%s", event, data)
			}
			status.Message = "something new was said"
			hub.SetApp(status)
			if _, data := next(); !strings.Contains(data, status.Message) {
				t.Errorf("after the change:\n%s", data)
			}
		})
	}
}

func TestALiveAppAsksForItsDetailsOnlyWhenTheyAreOld(t *testing.T) {
	const again = `hx-get="/clusters/prod/default/guestbook"`
	seed := fleettest.Sample()
	hub := fleettest.NewHub(seed)
	s := serve(t, hub)
	_, body := s.get(t, "/clusters/prod/default/guestbook", "see")
	_, rest, _ := strings.Cut(body, `sse-connect="`)
	address, _, _ := strings.Cut(rest, `"`)
	hasNot(t, body, again)
	next := s.events(t, strings.ReplaceAll(address, "&#43;", "+"))
	_, data := next()
	hasNot(t, data, again)

	approved := seed.Apps[1]
	approved.Sync, approved.Pending = fleet.Synced, nil
	hub.SetApp(approved)
	_, data = next()
	has(t, data, again, `hx-trigger="load"`)
}

func TestAStreamEndsWithTheViewer(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	s := serve(t, hub)
	t.Run("viewer", func(t *testing.T) {
		s.events(t, "/live/")()
		if hub.Watchers() != 1 {
			t.Errorf("%d watches", hub.Watchers())
		}
	})
	for end := time.Now().Add(20 * time.Second); hub.Watchers() != 0; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the watch goes on")
		}
	}
}

func TestStrangersGetNoStream(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	for _, token := range []string{"", "wrong", "push"} {
		if res, _ := s.get(t, "/live/", token); res.StatusCode/100 != 4 {
			t.Errorf("token %q: %s", token, res.Status)
		}
	}
}
