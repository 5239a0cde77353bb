package source_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// refused says why an App may not be read from a URL, without reading anything:
// the Pool does not run.
func refused(t *testing.T, url string, change func(*source.PoolConfig)) error {
	t.Helper()
	cfg := source.PoolConfig{Own: source.Config{URL: "https://git.example.com/fleet.git", Ref: source.Ref{Branch: "main"}}, Namespace: "capstan-system"}
	change(&cfg)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := source.NewPool(cfg, &heads{}, newSecrets(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p.Latest(appNamed("a"), from(url)).Err
}

func TestWhatAppsMayBeReadFrom(t *testing.T) {
	listed := func(urls ...string) func(*source.PoolConfig) {
		return func(c *source.PoolConfig) {
			for _, u := range urls {
				c.Repositories = append(c.Repositories, source.Entry{URL: u})
			}
		}
	}
	for _, tt := range []struct {
		url    string
		listed []string
		why    string // "": it may
	}{
		{"https://anywhere.example.com/x.git", nil, ""},
		{"http://anywhere.example.com/x.git", nil, ""},
		{"git@anywhere.example.com:x.git", nil, ""},
		{"file:///var/mirror/x.git", nil, "own disks"},
		{"bundle:///var/bundles", nil, "own disks"},
		{"ftp://anywhere.example.com/x", nil, "https, http, ssh"},
		{"https://me:hunter2@git.example.com/x.git", nil, "credentials"},
		{"https://git.example.com/team/x.git", []string{"https://git.example.com/team/"}, ""},
		{"https://GIT.example.com:443/Team/x", []string{"https://git.example.com/team/*"}, ""},
		{"https://git.example.com/fleet", []string{"https://git.example.com/team/"}, ""}, // the agent's own
		{"https://git.example.com/other/x.git", []string{"https://git.example.com/team/"}, "does not let"},
		{"https://git.example.com/teams/x.git", []string{"https://git.example.com/team/"}, "does not let"},
		{"https://git.example.com/team/../other/x.git", []string{"https://git.example.com/team/"}, "path"},
		{"https://git.example.com/team/%2e%2e/other/x.git", []string{"https://git.example.com/team/"}, "path"},
		{"https://git.example.com/team/..%2fother/x.git", []string{"https://git.example.com/team/"}, "path"},
		{"https://git.example.com.evil.example/team/x.git", []string{"https://git.example.com/team/"}, "does not let"},
		{"https://git.example.com:8443/team/x.git", []string{"https://git.example.com/team/"}, "does not let"},
		{"http://git.example.com/team/x.git", []string{"https://git.example.com/team/"}, "does not let"},
		{"git@git.example.com:team/x.git", []string{"ssh://git@git.example.com/team/"}, ""},
		{"https://git.example.com/x.git", []string{"https://git.example.com/x"}, ""},
		{"https://git.example.com/x/y.git", []string{"https://git.example.com/x"}, "does not let"},
		{"file:///var/mirror/x.git", []string{"file:///var/mirror/"}, ""},
		{"file:///var/mirror/../secret/x.git", []string{"file:///var/mirror/"}, "does not let"},
		{"bundle:///var/bundles", []string{"bundle:///var/bundles"}, ""},
	} {
		t.Run(strings.NewReplacer("/", "_", ":", "").Replace(tt.url), func(t *testing.T) {
			err := refused(t, tt.url, listed(tt.listed...))
			if tt.why == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.why, "")
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it shows a credential: %v", err)
			}
		})
	}
}

func TestWhereSignaturesAreAskedForAnUnknownRepositoryIsRefused(t *testing.T) {
	signed := func(c *source.PoolConfig) { c.Own.Verify.AllowedSignersFile = "/keys" }
	err := refused(t, "https://git.example.com/x.git", signed)
	wantError(t, err, "asks for signatures", "under repositories")
	if !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("not told apart: %v", err)
	}
}

func TestARepositorysKeysAreAskedForUnderEveryNameOfIt(t *testing.T) {
	shop := newShop(t)
	shop.push() // not signed
	keys := tokenFile(t, "")
	p := newPool(t, shop.http.URL+"/own.git", func(c *source.PoolConfig) {
		c.Repositories = []source.Entry{
			{URL: shop.http.URL + "/*"},
			{URL: shop.url, Config: source.Config{Verify: source.Verify{AllowedSignersFile: keys}}},
		}
	})
	for _, url := range []string{shop.url, strings.TrimSuffix(shop.url, ".git"), strings.Replace(shop.url, "shop", "sh%6fp", 1), shop.url + "/"} {
		p.fails("a", from(url), "is not verified")
	}
	tagged := unit.Source{RepoURL: shop.url, Ref: unit.Ref{Tag: "v1"}}
	run(t, shop.work, "tag", "v1")
	run(t, shop.work, "push", "-q", "origin", "v1")
	p.fails("a", tagged, "is not verified")
}

func TestEntriesThatCannotBeMeantAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name, text, hint string
		entries          []source.Entry
	}{
		{"half a host", "does not name its whole host", "write it like", []source.Entry{{URL: "https://git.example.com*"}}},
		{"no scheme", "does not name its whole host", "write it like", []source.Entry{{URL: "git@git.example.com:team/"}}},
		{"twice", "the same as of repositories[0]", "keep one", []source.Entry{{URL: "https://a.example.com/x.git"}, {URL: "https://A.example.com:443/x"}}},
		{"the own one", "agent's own repository", "under source", []source.Entry{{URL: "https://git.example.com/fleet"}}},
		{"mirrors of many", "is a prefix", "an entry of its own", []source.Entry{{URL: "https://a.example.com/", Config: source.Config{Mirrors: []string{"https://m.example.com/x.git"}}}}},
		{"a mirror that is none", "mirrors[0]", "", []source.Entry{{URL: "https://a.example.com/x", Config: source.Config{Mirrors: []string{"x"}}}}},
		{"a local prefix", "not a directory", "slash", []source.Entry{{URL: "file:///var/mirr*"}}},
		{"no keys", "no keys are given", "", []source.Entry{{URL: "https://a.example.com/x", Config: source.Config{Verify: source.Verify{Mode: "commit"}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := source.PoolConfig{Own: source.Config{URL: "https://git.example.com/fleet.git"}, Repositories: tt.entries}
			wantError(t, c.Validate(), tt.text, tt.hint)
		})
	}
}
