package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
	"github.com/capstan-gitops/capstan/pkg/signin"
)

// idp lets everybody in as ada, for an hour at a time. Hub tests have a real one.
type idp struct {
	now     *time.Time
	renewed []string
	err     error
}

func (p *idp) Begin(_ context.Context, redirect string) (string, signin.Attempt, error) {
	return redirect + "?state=s&code=c", signin.Attempt{State: "s"}, nil
}

func (p *idp) Finish(context.Context, string, signin.Attempt, string, string) (fleet.Identity, time.Time, string, error) {
	return person("ada"), p.now.Add(time.Hour), "first", nil
}

func (p *idp) Renew(_ context.Context, refresh string) (fleet.Identity, time.Time, string, error) {
	p.renewed = append(p.renewed, refresh)
	return person("ada"), p.now.Add(time.Hour), "next", p.err
}

func TestASignInIsAskedForAgainWhenItEnds(t *testing.T) {
	now := fleettest.When
	p := &idp{now: &now}
	clock := func() time.Time { return now }
	h, err := web.New(web.Config{
		Hub: fleettest.NewHub(fleettest.Sample()), People: tokens{"do": "ada"}, Sessions: web.NewSessions(clock), SignIn: p, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	s := &site{url: server.URL, client: &http.Client{Transport: transport}}
	b := s.browser(t)
	is := func(what string, want int) {
		t.Helper()
		if res, _ := b.get(t, "/", ""); res.StatusCode != want {
			t.Errorf("%s: %s, want %d", what, res.Status, want)
		}
	}
	is("before", 401)
	if res, _ := b.get(t, "/login/start", ""); res.StatusCode != 200 {
		t.Fatalf("sign in: %s", res.Status)
	}
	is("fresh", 200)
	now = now.Add(time.Hour)
	is("after an hour", 200)
	is("and again", 200)
	now = now.Add(time.Hour)
	p.err = fleet.Unavailable("the provider is away")
	is("the provider is away", 503)
	p.err = nil
	is("and is back", 200)
	if len(p.renewed) != 3 || p.renewed[0] != "first" || p.renewed[1] != "next" {
		t.Errorf("renewed with %v", p.renewed)
	}
	now = now.Add(time.Hour)
	p.err = fleet.Forbidden("ada has left")
	is("no more", 401)
	p.err = nil
	is("nor later", 401)
}
