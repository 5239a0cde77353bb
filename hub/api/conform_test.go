package api_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAPIWithClientBehavesAsTheHubBehindIt(t *testing.T) {
	fleettest.Conform(t, func(t *testing.T, seed fleettest.Seed) fleet.Hub {
		t.Helper()
		return serve(t, fleettest.NewHub(seed)).client(t, adminToken)
	})
	fleettest.ConformErrors(t, func(t *testing.T, inner *fleettest.Hub) fleet.Hub {
		t.Helper()
		return serve(t, inner).client(t, adminToken)
	})
}

const (
	adminToken  = "token-of-jane"
	viewerToken = "token-of-vic"
	hookToken   = "token-of-git"
)

// fixture is an API on a real server with what it told of the world.
type fixture struct {
	url    string
	pushed []string
	logins []string
}

func identity(name string) fleet.Identity { return fleet.Identity{Via: fleet.ViaToken, Name: name} }

func serve(t *testing.T, hub fleet.Hub) *fixture {
	t.Helper()
	f := &fixture{}
	people := &fleettest.People{Known: map[string]fleet.Identity{
		adminToken: identity("jane@example.com"), viewerToken: identity("vic"), hookToken: identity("git"),
	}}
	h, err := api.New(api.Config{
		Hub: hub, People: people, Logins: f, SignIn: &client.SignIn{Issuer: "https://id.example.com", ClientID: "capstan", Scopes: []string{"openid"}},
		GitPushed: func(_ context.Context, repo string, refs ...string) error {
			f.pushed = append(append(f.pushed, repo), refs...)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

func (f *fixture) Issue(id fleet.Identity) (string, error) {
	f.logins = append(f.logins, id.Via+" "+id.Name)
	return "/login?code=abc", nil
}

func (f *fixture) client(t *testing.T, token string) *client.Client {
	t.Helper()
	server := f.url
	// Its own connections, closed before the server waits for them.
	transport := newTransport(t)
	c, err := client.New(client.Config{URL: server + "/", Token: token, HTTP: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
