package hooks_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/hooks"
)

// fuzz shows that no body of a forge that is believed makes the hub fail, or
// tell agents what is no address or holds a credential.
func fuzz(f *testing.F, provider string, event string) {
	f.Helper()
	for _, c := range calls {
		if c.provider == provider {
			f.Add(payload(f, c.payload), c.headers[event])
		}
	}
	f.Fuzz(func(t *testing.T, body, name string) {
		fake := newForge(t, everyProvider...)
		headers := proved(provider, key, body, nil)
		if event != "" {
			headers[event] = name
		}
		w := fake.call(provider, body, headers)
		if w.Code >= 500 || len(fake.outcomes) != 1 || (fake.outcomes[0] == hooks.Told) != (len(fake.pushed) > 0) {
			t.Errorf("got %d, %v", w.Code, fake.outcomes)
		}
		for _, repo := range fake.pushed {
			if strings.ContainsAny(repo, "\r\n\x00 ") || len(repo) > 8192 {
				t.Errorf("told of %q", repo)
			}
			if u, err := url.Parse(repo); err == nil && u.User != nil && strings.Contains(repo, "://") {
				if _, has := u.User.Password(); has || u.Scheme != "ssh" {
					t.Errorf("told of a credential: %q", repo)
				}
			}
		}
	})
}

func FuzzGitHub(f *testing.F)    { fuzz(f, "github", "X-GitHub-Event") }
func FuzzGitLab(f *testing.F)    { fuzz(f, "gitlab", "") }
func FuzzGitea(f *testing.F)     { fuzz(f, "gitea", "X-Gitea-Event") }
func FuzzBitbucket(f *testing.F) { fuzz(f, "bitbucket", "X-Event-Key") }
func FuzzAzure(f *testing.F)     { fuzz(f, "azure", "") }
