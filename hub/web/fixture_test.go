package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokens are the name of their owner by token.
type tokens map[string]string

func (t tokens) Authenticate(_ context.Context, token string) (fleet.Identity, error) {
	if token == "broken" {
		return fleet.Identity{}, fleet.Unavailable("the tokens can't be read")
	}
	if token == "often" {
		return fleet.Identity{}, fleet.WithHint(fleet.TooOften("too many tokens came from there"), "wait a minute")
	}
	name, ok := t[token]
	if !ok {
		return fleet.Identity{}, fleet.WithHint(fleet.Forbidden("the token is not one of this hub's"), "check it")
	}
	return person(name), nil
}

func (t tokens) Still(_ context.Context, id fleet.Identity) (fleet.Identity, error) {
	for _, has := range t {
		if has == id.Name {
			return id, nil
		}
	}
	return fleet.Identity{}, fleet.Forbidden("there is no token of %q any more", id.Name)
}

func (tokens) Pace(fleet.Identity) error { return nil }

func person(name string) fleet.Identity { return fleet.Identity{Via: fleet.ViaToken, Name: name} }

// site is a served page with the parts behind it.
type site struct {
	url      string
	sessions *web.Sessions
	tokens   tokens
	clock    *time.Time
	client   *http.Client
}

func serve(t *testing.T, hub fleet.Hub) *site {
	t.Helper()
	now := fleettest.When.Add(5 * time.Minute)
	s := &site{clock: &now, tokens: tokens{"see": "jane", "do": "ada"}}
	clock := func() time.Time { return *s.clock }
	s.sessions = web.NewSessions(clock)
	h, err := web.New(web.Config{
		Hub: hub, Sessions: s.sessions, Now: clock, People: s.tokens,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s.url, s.client = server.URL, &http.Client{Transport: transport}
	return s
}

// atNow sets the site's clock to the time it is: what a test does has that.
func (s *site) atNow() { *s.clock = time.Now() }

func (s *site) request(t *testing.T, path, token string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

// get fetches a page as the one who bears token; "" is a stranger.
func (s *site) get(t *testing.T, path, token string) (*http.Response, string) {
	t.Helper()
	res, err := s.client.Do(s.request(t, path, token))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// browser is a site's visitor with cookies and no token.
func (s *site) browser(t *testing.T) *site {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := *s
	b.client = &http.Client{Transport: s.client.Transport, Jar: jar}
	return &b
}

// events opens a stream and returns a function that waits for its next event.
func (s *site) events(t *testing.T, path string) func() (event, data string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	res, err := s.client.Do(s.request(t, path, "see").WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if kind := res.Header.Get("Content-Type"); res.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("stream: %s, %s", res.Status, kind)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	return func() (event, data string) {
		t.Helper()
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				event = value
			case "data":
				data += value + "\n"
			case "":
				if event != "" {
					return event, data
				}
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return "", ""
	}
}

func has(t *testing.T, body string, wants ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(body), " ")
	for _, want := range wants {
		if !strings.Contains(flat, want) {
			t.Errorf("the page does not have %q:\n%s", want, flat)
		}
	}
}

func hasNot(t *testing.T, body string, unwanted ...string) {
	t.Helper()
	for _, u := range unwanted {
		if strings.Contains(body, u) {
			t.Errorf("the page has %q:\n%s", u, body)
		}
	}
}

// large is a fleet of n clusters with one app on each: every 50th is degraded,
// and one is silent.
func large(n int) fleettest.Seed {
	var seed fleettest.Seed
	for i := range n {
		c := fmt.Sprintf("edge-%04d", i)
		s := fleet.AppStatus{Cluster: c, Namespace: "shop", App: "web", Sync: fleet.Synced, Health: fleet.Healthy}
		if i%50 == 1 {
			s.Health, s.Message = fleet.Degraded, "crashes on "+c
		}
		if i == 7 {
			s.Sync, s.Health, s.Stale = fleet.SyncUnknown, fleet.HealthUnknown, true
		}
		seed.Clusters = append(seed.Clusters, fleet.Cluster{Cluster: c, Stale: s.Stale, Labels: map[string]string{"tier": "edge"}})
		seed.Apps = append(seed.Apps, s)
	}
	return seed
}
