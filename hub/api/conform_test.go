package api_test

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
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
	tokens string // the file
}

func serve(t *testing.T, hub fleet.Hub) *fixture {
	t.Helper()
	f := &fixture{tokens: filepath.Join(t.TempDir(), "tokens")}
	write(t, f.tokens, "# who may what\n\n"+
		line("jane@example.com", "admin", adminToken)+line("vic", "viewer", viewerToken)+line("git", "hook", hookToken))
	tokens, err := api.OpenTokens(f.tokens)
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(api.Config{
		Hub: hub, Tokens: tokens, Logins: f,
		GitPushed: func(_ context.Context, repo string) error { f.pushed = append(f.pushed, repo); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

func (f *fixture) Issue(name, role string) (string, error) {
	f.logins = append(f.logins, name+" "+role)
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

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func line(name, role, token string) string {
	return strings.Join([]string{name, role, hashOf(token)}, " ") + "\n"
}
