package api_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAnAdminsTokenIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub")
	path, err := api.EnsureAdminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	token := content(t, path)
	if len(token) < 40 || strings.Contains(content(t, api.TokensFile(dir)), token) {
		t.Errorf("token %q; tokens:\n%s", token, content(t, api.TokensFile(dir)))
	}
	tokens, err := api.OpenTokens(api.TokensFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	lets := func() {
		t.Helper()
		if name, role, err := tokens.Authenticate(token); err != nil || name != "admin" || role != api.RoleAdmin {
			t.Errorf("the token is %q's with role %q, %v", name, role, err)
		}
	}
	lets()
	if again, err := api.EnsureAdminToken(dir); err != nil || again != path || content(t, path) != token {
		t.Errorf("the second time: %q, %v", again, err)
	}
	lets()

	// Stopped between the two files: the next start mends it.
	if err := os.Remove(api.TokensFile(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := api.EnsureAdminToken(dir); err != nil {
		t.Fatal(err)
	}
	lets()

	// Taken to a safer place: no new one is made.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if gone, err := api.EnsureAdminToken(dir); err != nil || gone != "" {
		t.Errorf("taken away: %q, %v", gone, err)
	}
	lets()
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestAnAdminsTokenJoinsThoseThatAreThere(t *testing.T) {
	dir := t.TempDir()
	write(t, api.TokensFile(dir), strings.TrimSpace(line("vic", "viewer", viewerToken))) // without a line's end
	if _, err := api.EnsureAdminToken(dir); err != nil {
		t.Fatal(err)
	}
	tokens, err := api.OpenTokens(api.TokensFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if name, _, err := tokens.Authenticate(viewerToken); err != nil || name != "vic" {
		t.Errorf("%q, %v", name, err)
	}
}

func TestTheTokenFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, line("vic", "viewer", viewerToken))
	tokens, err := api.OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(text string, age time.Duration) {
		t.Helper()
		write(t, path, text)
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	is := func(token string, want error) {
		t.Helper()
		if _, _, err := tokens.Authenticate(token); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", token, err, want)
		}
	}
	knows := func(name, role string, want bool) {
		t.Helper()
		if got, err := tokens.Knows(name, role); got != want || err != nil {
			t.Errorf("knows %s with role %s: %t, %v", name, role, got, err)
		}
	}
	is(viewerToken, nil)
	knows("vic", "viewer", true)
	knows("vic", "admin", false)
	change(line("jane", "admin", adminToken), time.Hour)
	knows("vic", "viewer", false)
	is(adminToken, nil)
	is(viewerToken, fleet.ErrForbidden)
	change("jane admin", 2*time.Hour)
	is(adminToken, fleet.ErrUnavailable)
	change(line("jane", "admin", adminToken), 3*time.Hour)
	is(adminToken, nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	is(adminToken, fleet.ErrUnavailable)
	if _, err := tokens.Knows("jane", "admin"); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("a session without a token file: %v", err)
	}
}

func TestATokenFileThatCannotBeRead(t *testing.T) {
	good := line("vic", "viewer", viewerToken)
	for name, bad := range map[string]string{
		"two words":     "vic viewer\n",
		"a clear token": "vic viewer " + viewerToken + "\n",
		"another role":  line("vic", "owner", viewerToken),
		"a bad name":    line("vic/1", "viewer", viewerToken),
		"a short hash":  "vic viewer sha256:abcd\n",
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		write(t, path, good+bad)
		_, err := api.OpenTokens(path)
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), path+" line 2") || fleet.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), viewerToken) {
			t.Errorf("%s: the error holds a token: %v", name, err)
		}
	}
}

func FuzzTokenFile(f *testing.F) {
	f.Add(line("vic", "viewer", viewerToken))
	f.Add("# comment\n\n a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "tokens")
		write(t, path, text)
		tokens, err := api.OpenTokens(path)
		if err != nil {
			return
		}
		if _, _, err := tokens.Authenticate(""); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("no token is somebody's: %v", err)
		}
	})
}
