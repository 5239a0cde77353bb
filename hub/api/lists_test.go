package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

// page is a list as it is answered.
type page struct {
	Items     []map[string]any
	Continue  string
	Remaining int
}

func (f *fixture) page(t *testing.T, path string) page {
	t.Helper()
	res, body := f.ask(t, "GET", path, "", bearer(viewerToken))
	var p page
	if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode != 200 {
		t.Fatalf("%s: %s %s", path, res.Status, body)
	}
	return p
}

func TestListsComeInPages(t *testing.T) {
	seed := fleettest.Sample()
	seed.Clusters, seed.Apps = nil, nil
	for _, name := range []string{"a", "a-b", "b", "c", "d"} {
		seed.Clusters = append(seed.Clusters, fleet.Cluster{Cluster: name})
		for _, app := range []string{"x", "y"} {
			seed.Apps = append(seed.Apps, fleet.AppStatus{Cluster: name, Namespace: "n", App: app})
		}
	}
	hub := fleettest.NewHub(seed)
	f := serve(t, hub)
	for path, want := range map[string]string{
		"/api/v1/clusters": "a a-b b c d",
		"/api/v1/apps":     "a/x a/y a-b/x a-b/y b/x b/y c/x c/y d/x d/y",
	} {
		for limit := 1; limit < 12; limit++ {
			var got []string
			next, left := "", -1
			for {
				p := f.page(t, fmt.Sprintf("%s?limit=%d&continue=%s", path, limit, next))
				for _, item := range p.Items {
					name := fmt.Sprint(item["cluster"])
					if app, ok := item["app"]; ok {
						name += fmt.Sprint("/", app)
					}
					got = append(got, name)
				}
				if left >= 0 && p.Remaining != max(0, left-limit) {
					t.Errorf("%s: %d remain after %d did", path, p.Remaining, left)
				}
				left = p.Remaining
				if next = p.Continue; next == "" {
					break
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s by %d: %v", path, limit, got)
			}
		}
	}
	// What goes between two pages moves nothing else.
	first := f.page(t, "/api/v1/clusters?limit=3")
	if err := hub.RemoveCluster(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if second := f.page(t, "/api/v1/clusters?continue="+first.Continue); len(second.Items) != 2 || second.Items[0]["cluster"] != "c" {
		t.Errorf("after one went: %v", second.Items)
	}
}

func TestOnlyTheFieldsThatAreAskedFor(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	_, body := f.ask(t, "GET", "/api/v1/apps?fields=cluster,pending.plan,pending.summary.update,drift", "", bearer(viewerToken))
	const want = `{"items":[{"cluster":"dev","drift":[{"object":{"group":"apps","version":"v1","kind":"Deployment","namespace":"default","name":"guestbook-ui"},` +
		`"manager":"kubectl-edit","fields":["/spec/replicas"],"since":"2026-03-14T09:26:53Z"}],"pending":null},` +
		`{"cluster":"prod","pending":{"plan":"plan-1","summary":{"update":1}}}]}`
	if strings.TrimSpace(body) != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	_, body = f.ask(t, "GET", "/api/v1/clusters?limit=1&fields=labels.env", "", bearer(viewerToken))
	if !strings.Contains(body, `"items":[{"labels":{"env":"dev"}}]`) || !strings.Contains(body, `"remaining":2`) {
		t.Errorf("with a page: %s", body)
	}
}

func TestWhatHasNotChangedIsNotSentAgain(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	f := serve(t, hub)
	res, _ := f.ask(t, "GET", "/api/v1/apps", "", bearer(viewerToken))
	tag := res.Header.Get("ETag")
	for header, want := range map[string]int{
		tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, "": 200,
	} {
		res, body := f.ask(t, "GET", "/api/v1/apps", "", bearer(viewerToken), "If-None-Match: "+header)
		if res.StatusCode != want || want == 304 && body != "" || res.Header.Get("ETag") != tag {
			t.Errorf("%s: %s %q", header, res.Status, body)
		}
	}
	hub.SetApp(fleet.AppStatus{Cluster: "dev", Namespace: "default", App: "guestbook", Message: "another"})
	if res, _ := f.ask(t, "GET", "/api/v1/apps", "", bearer(viewerToken), "If-None-Match: "+tag); res.StatusCode != 200 || res.Header.Get("ETag") == tag {
		t.Errorf("after a change: %s", res.Status)
	}
}

func TestAStreamGoesOnWhereOneEnded(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	f := serve(t, hub)
	stream := func(last string) (next func() string, end func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/api/v1/watch", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+viewerToken)
		req.Header.Set("Last-Event-ID", last)
		res, err := newTransport(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(res.Body)
		return func() string {
				for lines.Scan() {
					if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
						return id
					}
				}
				t.Fatal("the stream ended")
				return ""
			}, func() {
				cancel()
				res.Body.Close()
			}
	}
	label := func(value string) {
		t.Helper()
		if _, err := hub.LabelCluster(t.Context(), "dev", map[string]string{"env": value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	next, end := stream("")
	seen := next()
	end()
	label("while nobody was there"[:5])
	next, end = stream(seen)
	if id := next(); id == seen {
		t.Errorf("%q again", id)
	} else {
		seen = id
	}
	end()
	next, end = stream(seen) // nothing has happened: the next word is of the next change
	label("x")
	if id := next(); id == seen {
		t.Errorf("%q again", id)
	}
	end()
}
