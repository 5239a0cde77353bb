package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

var tags = regexp.MustCompile(`<[^>]*>`)

// read is what somebody reads on a page, without its tags.
func read(body string) string { return tags.ReplaceAllString(body, " ") }

func TestEveryPageRendersFromFixtures(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	for path, c := range map[string]struct {
		status int
		want   []string
	}{
		"/":                   {200, []string{"3 clusters", "1 app", "guestbook", "dev", "prod", "staging", "Synced", "Healthy", "Pending", "waits for approval , 0 of 1", "Stale", "env=dev"}},
		"/?selector=env=prod": {200, []string{"1 cluster", "guestbook", "Pending", "Show all"}},
		"/?selector=env=none": {200, []string{"No cluster has these labels."}},
		"/?selector=%3D":      {400, []string{"selector", "not valid"}},
		"/clusters":           {200, []string{"dev", "prod", "staging", "v1.37.2", "1 Pending", "Stale"}},
		"/clusters/prod":      {200, []string{"Cluster prod", "env=prod", "uid-prod", "default/ guestbook", "main@sha1:11111111"}},
		"/clusters/staging":   {200, []string{"Nothing has been heard of it since 1 h ago", "No app is on this cluster."}},
		"/clusters/nobody":    {404, []string{"cluster &#34;nobody&#34; is not known"}},
		"/clusters/dev/default/guestbook": {200, []string{
			"Deployment.apps default/guestbook-ui", "changed by kubectl-edit", "/spec/replicas", "Progressing", "1 of 3 ready",
			"main@sha1:22222222", "jane", "2 created",
		}},
		"/clusters/prod/default/guestbook": {200, []string{
			"Waits for approval", "0 of 1", "capstan approve default/guestbook --cluster prod", "capstan diff default/guestbook --cluster prod",
			"What would change", "was 1", "becomes 3", "a&lt;b&amp;&amp;c&gt;d", "secret value, not shown",
		}},
		"/clusters/prod/default/none": {404, []string{"not on cluster"}},
		"/apps/default/guestbook":     {200, []string{"App default/guestbook", "dev", "prod", "Pending"}},
		"/apps/default/none":          {404, []string{"no cluster has app default/none"}},
		"/events":                     {200, []string{"Nobody changed anything in the last 7 days."}},
		"/nothing/here":               {404, []string{"there is no page /nothing/here"}},
	} {
		t.Run(path, func(t *testing.T) {
			res, body := s.get(t, path, "see")
			if res.StatusCode != c.status {
				t.Errorf("status %s", res.Status)
			}
			has(t, read(body), c.want...)
			has(t, body, `<html lang="en">`, "<main id=\"main\"", `class="skip" href="#main"`, "<title>", "</html>")
			if strings.Count(body, "<h1") != 1 {
				t.Error("the page has not exactly one heading of the first level")
			}
			hasNot(t, body, "<no value>", "ZgotmplZ", " style=", " onclick=", "<script>", "<style")
		})
	}
}

func TestEveryWordHasASymbolAndIsWritten(t *testing.T) {
	seed := fleettest.Seed{Clusters: []fleet.Cluster{{Cluster: "dev"}}}
	syncs := []fleet.Sync{fleet.Synced, fleet.OutOfSync, fleet.Pending, fleet.SyncUnknown}
	healths := []fleet.Health{fleet.Healthy, fleet.Suspended, fleet.Progressing, fleet.Missing, fleet.Degraded, fleet.HealthUnknown}
	for _, sync := range syncs {
		for _, health := range healths {
			seed.Apps = append(seed.Apps, fleet.AppStatus{Cluster: "dev", Namespace: strings.ToLower(string(sync)), App: strings.ToLower(string(health)), Sync: sync, Health: health})
		}
	}
	s := serve(t, fleettest.NewHub(seed))
	_, body := s.get(t, "/", "see")
	word := regexp.MustCompile(`<use href="#(i-[a-z]+)"/></svg>(\w+)</span> <span class="hidden">Health </span><span class="mark \w+"><svg[^>]*><use href="#(i-[a-z]+)"/></svg>(\w+)</span>`)
	symbols := map[string]string{} // of a word
	found := word.FindAllStringSubmatch(body, -1)
	if len(found) != len(syncs)*len(healths) {
		t.Fatalf("%d of %d pairs are on the page:\n%s", len(found), len(syncs)*len(healths), body)
	}
	for _, m := range found {
		symbols["sync "+m[2]], symbols["health "+m[4]] = m[1], m[3]
	}
	words := map[string]string{} // of a symbol
	for w, symbol := range symbols {
		if !strings.Contains(body, `<symbol id="`+symbol+`"`) {
			t.Errorf("%s has the symbol %s, which the page does not define", w, symbol)
		}
		if other, taken := words[symbol]; taken {
			t.Errorf("%s and %s have the same symbol", w, other)
		}
		words[symbol] = w
	}
	if len(symbols) != len(syncs)+len(healths) {
		t.Errorf("words on the page: %v", symbols)
	}
}

func TestALargeFleetShowsWhatNeedsSomebodyAndCountsTheRest(t *testing.T) {
	s := serve(t, fleettest.NewHub(large(300)))
	_, body := s.get(t, "/", "see")
	text := read(body)
	has(t, text, "300 clusters", "6 failing", "293 as wanted", "1 cluster stale",
		"edge-0001", "crashes on edge-0251", "293 Sync Synced Health Healthy", "1 Sync Unknown Health Unknown Stale")
	hasNot(t, text, "edge-0000", "edge-0007")
	if len(body) > 30<<10 {
		t.Errorf("a page of one app on 300 clusters has %d bytes", len(body))
	}
	_, body = s.get(t, "/apps/shop/web", "see")
	has(t, body, "edge-0000", "edge-0007", "edge-0299")
	if strings.Index(body, "edge-0251") > strings.Index(body, "edge-0000") {
		t.Error("a degraded cluster comes after a healthy one")
	}
}

func TestThePageOfAnAppSaysWhenWhatFailedIsTriedAgain(t *testing.T) {
	now := fleettest.When.Add(5 * time.Minute) // as the site has it
	for in, want := range map[time.Duration]string{
		-time.Minute: "now", 20 * time.Second: "in less than a minute", 4*time.Minute + time.Second: "in 4 min", 90 * time.Minute: "in 1 h",
	} {
		seed := fleettest.Sample()
		for i := range seed.Apps {
			seed.Apps[i].Retry = &fleet.Retry{Failed: 3, Next: now.Add(in)}
		}
		_, body := serve(t, fleettest.NewHub(seed)).get(t, "/clusters/dev/default/guestbook", "see")
		has(t, strings.Join(strings.Fields(read(body)), " "), "Next try "+want+" , after 3 that failed")
	}
	_, body := serve(t, fleettest.NewHub(fleettest.Sample())).get(t, "/clusters/dev/default/guestbook", "see")
	hasNot(t, body, "Next try")
}

func TestWhatOthersWroteIsEscaped(t *testing.T) {
	const evil = `<script>alert("x")</script>`
	seed := fleettest.Sample()
	for i := range seed.Apps {
		seed.Apps[i].Message, seed.Apps[i].Hint, seed.Apps[i].Reason, seed.Apps[i].Path = evil, evil, evil, evil
	}
	for i := range seed.Clusters {
		seed.Clusters[i].Message = evil
		seed.Clusters[i].AgentVersion = `"><img src=x onerror=alert(1)>`
	}
	s := serve(t, fleettest.NewHub(seed))
	for _, path := range []string{"/", "/clusters", "/clusters/dev", "/apps/default/guestbook", "/clusters/prod/default/guestbook", "/?selector=" + "%3Cscript%3E"} {
		_, body := s.get(t, path, "see")
		hasNot(t, body, "<script>", "<img src=x")
		has(t, body, "&lt;script&gt;")
	}
}

func TestASecretIsMaskedThoughThePlanIsNot(t *testing.T) {
	seed := fleettest.Sample()
	key := fleettest.Key{Cluster: "prod", App: fleettest.Guestbook}
	secret := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "default", Name: "s"}
	raw, err := json.Marshal(fleet.Plan{Changes: []fleet.Change{{Object: secret, Action: fleet.Update, Fields: []fleet.FieldDiff{
		{Path: "/data/a", From: json.RawMessage(`"b2xkLXNlY3JldA=="`), To: json.RawMessage(`"bmV3LXNlY3JldA=="`)},
		{Path: "/stringData", To: json.RawMessage(`{"k":"bmV3LXNlY3JldA=="}`)},
		{Path: "/metadata/labels/x", To: json.RawMessage(`"shown"`)},
		{Path: "/spec/x", To: json.RawMessage(`"b2xkLXNlY3JldA=="`), Masked: true},
	}}, {Object: fleet.ObjectRef{Group: "batch", Version: "v1", Kind: "Job", Name: "j"}, Action: fleet.RunHook, Note: "PreSync hook of wave 1"}}})
	if err != nil {
		t.Fatal(err)
	}
	seed.Plans[key] = fleet.SignedPlan{Plan: raw}
	s := serve(t, fleettest.NewHub(seed))
	_, body := s.get(t, "/clusters/prod/default/guestbook", "see")
	has(t, body, "/data/a", "/stringData", "secret value, not shown", "shown", "PreSync hook of wave 1")
	hasNot(t, body, "b2xkLXNlY3JldA", "bmV3LXNlY3JldA")
}

// silentAgents is a hub whose agents do not answer.
type silentAgents struct{ *fleettest.Hub }

func (silentAgents) err() error {
	return fleet.WithHint(fleet.Unavailable("the agent of prod does not answer"), "look whether it runs")
}

func (h silentAgents) Plan(context.Context, string, fleet.AppName) (fleet.SignedPlan, error) {
	return fleet.SignedPlan{}, h.err()
}

func (h silentAgents) Tree(context.Context, string, fleet.AppName) ([]fleet.Object, error) {
	return nil, h.err()
}

func (h silentAgents) History(context.Context, string, fleet.AppName) ([]fleet.HistoryEntry, error) {
	return nil, h.err()
}

func TestAPageShowsWhatCouldBeHad(t *testing.T) {
	inner := fleettest.NewHub(fleettest.Sample())
	s := serve(t, silentAgents{inner})
	res, body := s.get(t, "/clusters/prod/default/guestbook", "see")
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %s", res.Status)
	}
	has(t, body, "Waits for approval", "the agent of prod does not answer", "look whether it runs")

	inner.Fail(fleet.WithHint(fleet.Unavailable("the store is away"), "wait"))
	res, body = s.get(t, "/", "see")
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %s", res.Status)
	}
	has(t, body, "the store is away", "wait")
}
