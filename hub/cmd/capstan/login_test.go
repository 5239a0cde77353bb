package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
	"github.com/capstan-gitops/capstan/pkg/signin"
	"github.com/capstan-gitops/capstan/pkg/signin/signintest"
)

// said calls back with what is written, whole so far.
type said struct {
	strings.Builder
	heard func(all string)
}

func (s *said) Write(b []byte) (int, error) {
	n, err := s.Builder.Write(b)
	if s.heard != nil {
		s.heard(s.String())
	}
	return n, err
}

// signedIn is a hub with a real identity provider, and a shell before it.
func signedIn(t *testing.T) (*signintest.Provider, *shell, *said, *said) {
	t.Helper()
	idp := signintest.Start(t, map[string][]string{"ada": {"team-a"}})
	dir := t.TempDir()
	access, file := filepath.Join(dir, "access.yaml"), filepath.Join(dir, "tokens")
	for path, text := range map[string]string{access: "bindings: [{roles: [viewer], groups: [team-a]}]", file: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tokens, err := people.OpenTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := signin.New(idp.Client(signintest.CLIClient, ""))
	if err != nil {
		t.Fatal(err)
	}
	known, err := people.Open(people.Config{
		Tokens: tokens, AccessFile: access, Service: store.NewMemory().Bucket(store.Tokens),
		Provider: people.NewOIDC(people.OIDCConfig{Provider: provider}),
	})
	if err != nil {
		t.Fatal(err)
	}
	guard := known.Guard(pushable{fleettest.NewHub(fleettest.Sample())})
	handler, err := api.New(api.Config{
		Hub: guard, People: known, GitPushed: guard.GitPushed, Logins: &testHub{},
		SignIn: &client.SignIn{Issuer: idp.Issuer, ClientID: signintest.CLIClient, Scopes: signintest.Scopes},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	env := map[string]string{"CAPSTAN_HUB": server.URL, "CAPSTAN_LOGINS": filepath.Join(dir, "deep", "logins.json")}
	out, err2 := &said{}, &said{}
	return idp, &shell{in: strings.NewReader(""), out: out, err: err2, env: func(k string) string { return env[k] }, now: time.Now}, out, err2
}

type pushable struct{ *fleettest.Hub }

func (pushable) GitPushed(context.Context, string, ...string) error { return nil }

func command(t *testing.T, s *shell, args ...string) error {
	t.Helper()
	root := newRoot(s)
	root.SetArgs(args)
	return root.ExecuteContext(t.Context())
}

var addressLine = regexp.MustCompile(`(?m)^  (http\S+)$`)

func TestLoginInABrowser(t *testing.T) {
	idp, s, out, errs := signedIn(t)
	browser := signintest.Browser(t)
	signed := make(chan error, 1)
	errs.heard = func(all string) {
		if m := addressLine.FindStringSubmatch(all); m != nil {
			errs.heard = nil
			go func() {
				_, _, err := idp.SignIn(browser, m[1], "ada")
				signed <- err
			}()
		}
	}
	if err := command(t, s, "whoami"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("before: %v", err)
	}
	if err := errors.Join(command(t, s, "login", "--no-browser"), <-signed); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "signed in as ada@example.com") {
		t.Errorf("said %q", out)
	}
	info, err := os.Stat(s.env("CAPSTAN_LOGINS"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, args := range [][]string{{"whoami"}, {"get", "apps"}} {
		if err := command(t, s, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	// The ID token ends, and another is fetched.
	before, err := os.ReadFile(s.env("CAPSTAN_LOGINS"))
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if err := command(t, s, "whoami"); err != nil {
		t.Errorf("renewed: %v", err)
	}
	after, err := os.ReadFile(s.env("CAPSTAN_LOGINS"))
	if err != nil || string(after) == string(before) {
		t.Errorf("nothing was renewed: %v", err)
	}
	s.now = time.Now
	if err := command(t, s, "logout"); err != nil {
		t.Fatal(err)
	}
	if err := command(t, s, "whoami"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("signed out: %v", err)
	}
	if err := command(t, s, "logout"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("signed out twice: %v", err)
	}
}

func TestLoginWithADevice(t *testing.T) {
	idp, s, out, errs := signedIn(t)
	code := regexp.MustCompile(`(?m)^with the code:\n\n  (\S+)$`)
	errs.heard = func(all string) {
		if m := code.FindStringSubmatch(all); m != nil {
			errs.heard = nil
			if err := idp.ApproveDevice(t.Context(), m[1], "ada"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := command(t, s, "login", "--device"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "signed in as ada@example.com") {
		t.Errorf("said %q", out)
	}
}

func TestAHubWithoutAProvider(t *testing.T) {
	handler, err := api.New(api.Config{
		Hub: fleettest.NewHub(fleettest.Sample()), People: &fleettest.People{}, Logins: &testHub{},
		GitPushed: func(context.Context, string, ...string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	s := &shell{out: &said{}, err: &said{}, now: time.Now, env: func(k string) string {
		return map[string]string{"CAPSTAN_HUB": server.URL, "CAPSTAN_LOGINS": filepath.Join(t.TempDir(), "l")}[k]
	}}
	if err := command(t, s, "login"); !errors.Is(err, fleet.ErrNotFound) || !strings.Contains(fleet.Hint(err), "CAPSTAN_TOKEN") {
		t.Errorf("%v", err)
	}
}
