package people_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAnAdminsTokenIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub")
	path, err := people.EnsureAdminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	token := content(t, path)
	if len(token) < 40 || strings.Contains(content(t, people.TokensFile(dir)), token) {
		t.Errorf("token %q; tokens:\n%s", token, content(t, people.TokensFile(dir)))
	}
	tokens, err := people.OpenTokens(people.TokensFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	lets := func() {
		t.Helper()
		if id, err := tokens.Authenticate(token); err != nil || id.Name != "admin" || len(id.Grants) != 1 || !slices.Equal(id.Grants[0].Roles, []fleet.Role{fleet.RoleAdmin}) {
			t.Errorf("the token is %+v, %v", id, err)
		}
	}
	lets()
	if again, err := people.EnsureAdminToken(dir); err != nil || again != path || content(t, path) != token {
		t.Errorf("the second time: %q, %v", again, err)
	}
	lets()

	// Stopped between the two files: the next start mends it.
	if err := os.Remove(people.TokensFile(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := people.EnsureAdminToken(dir); err != nil {
		t.Fatal(err)
	}
	lets()

	// Taken to a safer place: no new one is made.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if gone, err := people.EnsureAdminToken(dir); err != nil || gone != "" {
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
	write(t, people.TokensFile(dir), strings.TrimSpace(line("vic", "viewer", viewerToken))) // without a line's end
	if _, err := people.EnsureAdminToken(dir); err != nil {
		t.Fatal(err)
	}
	tokens, err := people.OpenTokens(people.TokensFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := tokens.Authenticate(viewerToken); err != nil || id.Name != "vic" {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestTheTokenFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, line("vic", "viewer", viewerToken))
	tokens, err := people.OpenTokens(path)
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
		if _, err := tokens.Authenticate(token); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", token, err, want)
		}
	}
	knows := func(name string, want error) {
		t.Helper()
		if _, err := tokens.Named(name); !errors.Is(err, want) {
			t.Errorf("knows %s: %v, want %v", name, err, want)
		}
	}
	is(viewerToken, nil)
	knows("vic", nil)
	change(line("jane", "admin", adminToken), time.Hour)
	knows("vic", fleet.ErrForbidden)
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
	knows("jane", fleet.ErrUnavailable)
}

func TestATokenFileThatCannotBeRead(t *testing.T) {
	good := line("vic", "viewer", viewerToken)
	for name, bad := range map[string]string{
		"two words":     "vic viewer\n",
		"a clear token": "vic viewer " + viewerToken + "\n",
		"another role":  line("vic", "owner", viewerToken),
		"no role":       line("vic", "viewer,", viewerToken),
		"two roles":     line("vic", "admin", adminToken),
		"a bad name":    line("vic/1", "viewer", viewerToken),
		"a short hash":  "vic viewer sha256:abcd\n",
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		write(t, path, good+bad)
		_, err := people.OpenTokens(path)
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
		tokens, err := people.OpenTokens(path)
		if err != nil {
			return
		}
		if _, err := tokens.Authenticate(""); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("no token is somebody's: %v", err)
		}
	})
}
