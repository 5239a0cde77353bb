package people_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// nowhere is a bucket without service tokens.
type nowhere struct{}

func (nowhere) Get(_ context.Context, key string) ([]byte, uint64, error) {
	return nil, 0, fleet.NotFound("%s is not there", key)
}
func (nowhere) Put(context.Context, string, []byte, uint64) (uint64, error) { return 1, nil }
func (nowhere) DeleteIf(context.Context, string, uint64) error              { return nil }
func (nowhere) All(context.Context, func(string, []byte, uint64) error) error {
	return nil
}

// somebody is who every ID token is about.
type somebody struct{}

func (somebody) Verify(_ context.Context, raw string) (fleet.Identity, time.Time, error) {
	if raw != "i.d.token" {
		return fleet.Identity{}, time.Time{}, fleet.Forbidden("the ID token is not one of the provider's")
	}
	return fleet.Identity{Via: fleet.ViaOIDC, Name: "ada"}, time.Time{}, nil
}

func TestWhoseATokenIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, line("vic", "viewer", viewerToken)+line("dot", "viewer,approver", "a.b.c"))
	tokens, err := people.OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := people.Open(people.Config{Tokens: tokens, Service: nowhere{}, Provider: somebody{}})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]fleet.Identity{
		viewerToken: {Via: fleet.ViaToken, Name: "vic"},
		"a.b.c":     {Via: fleet.ViaToken, Name: "dot"}, // of the file, though it looks like an ID token
		"i.d.token": {Via: fleet.ViaOIDC, Name: "ada"},
	} {
		id, err := p.Authenticate(t.Context(), token)
		if err != nil || id.Via != want.Via || id.Name != want.Name {
			t.Errorf("%s: %+v, %v", token, id, err)
		}
		if again, err := p.Still(t.Context(), id); err != nil || again.Name != id.Name {
			t.Errorf("%s, later: %+v, %v", token, again, err)
		}
	}
	for _, token := range []string{"", "x", "x.y.z", "capstan_svc_ci_x"} {
		if _, err := p.Authenticate(t.Context(), token); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("%q: %v", token, err)
		}
	}
	for _, id := range []fleet.Identity{{}, {Via: fleet.ViaToken, Name: "gone"}, {Via: fleet.ViaService, Name: "ci"}} {
		if _, err := p.Still(t.Context(), id); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("%+v: %v", id, err)
		}
	}
}

func TestAnAccessFileThatIsWrongStopsTheHub(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tokens"), "")
	tokens, err := people.OpenTokens(filepath.Join(dir, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "access.yaml")
	for _, text := range []string{"bindings: [{roles: [owner], users: [a]}]", "bindings: {"} {
		write(t, file, text)
		if _, err := people.Open(people.Config{Tokens: tokens, Service: nowhere{}, AccessFile: file}); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := people.Open(people.Config{Tokens: tokens, Service: nowhere{}, AccessFile: filepath.Join(dir, "none")}); err == nil {
		t.Error("an access file that is not there is passed over")
	}
}
