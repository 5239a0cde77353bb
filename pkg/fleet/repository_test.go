package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestARepositoryHasOneKeyHoweverItIsWritten(t *testing.T) {
	for key, addresses := range map[string][]string{
		"github.com/acme/fleet": {
			"https://github.com/acme/fleet", "https://github.com/acme/fleet.git", "https://github.com/Acme/Fleet/",
			"https://token@github.com/acme/fleet.git", "http://github.com:80/acme/fleet", "git@github.com:acme/fleet.git",
			"ssh://git@github.com/acme/fleet.git", "ssh://git@ssh.github.com:443/acme/fleet", "github.com:acme/fleet", "git://github.com/acme/fleet",
			" https://github.com//acme/./fleet.git ", "https://github.com./acme/fleet",
		},
		"gitlab.example.com/group/sub/fleet": {
			"https://gitlab.example.com:8443/group/sub/fleet.git", "ssh://git@gitlab.example.com:2222/group/sub/fleet.git",
			"git@gitlab.example.com:group/sub/fleet",
		},
		"bitbucket.example.com/proj/fleet": {
			"https://bitbucket.example.com/scm/proj/fleet.git", "ssh://git@bitbucket.example.com:7999/PROJ/fleet.git",
		},
		"dev.azure.com/acme/infra/fleet": {
			"https://acme@dev.azure.com/acme/Infra/_git/fleet", "git@ssh.dev.azure.com:v3/acme/Infra/fleet",
			"https://acme.visualstudio.com/Infra/_git/fleet", "https://acme.visualstudio.com/DefaultCollection/Infra/_git/fleet",
			"acme@vs-ssh.visualstudio.com:v3/acme/Infra/fleet",
		},
		"dev.azure.com/acme/fleet/fleet": {"https://dev.azure.com/acme/_git/fleet", "https://dev.azure.com/acme/fleet/_git/fleet"},
		"/srv/git/fleet":                 {"/srv/git/fleet.git", "file:///srv/git/fleet"},
		"::1/fleet":                      {"ssh://git@[::1]:22/fleet.git", "git@[::1]:fleet.git"},
	} {
		for _, a := range addresses {
			if got, err := fleet.RepositoryKey(a); err != nil || got != key {
				t.Errorf("%s: got %q, %v, want %q", a, got, err, key)
			}
		}
	}
}

func TestWhatNamesNoRepositoryHasNoKey(t *testing.T) {
	for _, a := range []string{"", "https://github.com", "https://github.com/", "https://github.com/.git", "https://h/a%00b", "https://h:secret-x/%zz", "git@host:", "/"} {
		_, err := fleet.RepositoryKey(a)
		if !errors.Is(err, fleet.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want ErrInvalid without the address", a, err)
		}
	}
}

func FuzzRepositoryKey(f *testing.F) {
	for _, a := range []string{"https://u:p@github.com/acme/fleet.git", "git@[::1]:a/b", "https://x.visualstudio.com/a/_git/b", "file:///a", "v3/a/b/c"} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, a string) {
		key, err := fleet.RepositoryKey(a)
		if err != nil {
			return
		}
		if strings.HasSuffix(key, "/") || strings.ContainsAny(key, "\n\r\x00") {
			t.Errorf("%q has the key %q", a, key)
		}
	})
}
