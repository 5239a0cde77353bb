package source_test

import (
	"errors"
	"os"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestASecretMayComeLaterAndRotate(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	shop.allow("shop", "one", "")
	first := shop.push()
	p := newPool(t, own.url)
	wantError(t, p.fails("a", withSecret(shop.url), "there is no Secret shop/git"), "Secret", "make it")
	p.secrets.set("shop/git", "unrelated", "x")
	wantError(t, p.fails("a", withSecret(shop.url), "holds nothing"), "Secret shop/git", "username and password")
	p.secrets.set("shop/git", "username", "shop", "password", "wrong")
	p.fails("a", withSecret(shop.url), "refuses the credentials")
	p.secrets.set("shop/git", "username", "shop", "password", "one")
	p.at("a", withSecret(shop.url), first)

	shop.allow("shop", "two", "")
	p.FetchSoon(appNamed("a"))
	p.fails("a", withSecret(shop.url), "refuses the credentials")
	if f := p.Latest(appNamed("a"), withSecret(shop.url)); f.Snapshot == nil || f.Snapshot.Commit != first {
		t.Errorf("what was read before is lost: %+v", f)
	}
	packs := shop.packs.Load()
	p.secrets.set("shop/git", "username", "shop", "password", "two")
	p.at("a", withSecret(shop.url), first)
	if n := shop.packs.Load(); n != packs {
		t.Error("new credentials had everything downloaded again")
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	p.secrets.open.Wait()
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := t.TempDir() + "/token"
	writeFile(t, file, token)
	return file
}

func TestWhatTheAgentIsKnownByIsSentToItsOwnServerAlone(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.allow("", "", "own token")
	own.push()
	shop.allow("", "", "own token") // it would like to have it
	shop.push()
	p := newPool(t, own.url, func(c *source.PoolConfig) {
		c.Own.BearerTokenFile = tokenFile(t, "own token")
		c.Repositories = []source.Entry{
			{URL: shop.http.URL + "/*"},
			{URL: "https://other.example.com/", Config: source.Config{PasswordFile: tokenFile(t, "other password")}},
		}
	})
	p.fails("a", from(shop.url), "none are configured")
	p.secrets.set("shop/git", "bearerToken", "own token")
	wantError(t, p.fails("b", withSecret(shop.url), "is not sent to"), "Secret shop/git holds what this agent is known by at", "of its own")
	p.secrets.set("shop/git", "password", "other password")
	p.fails("b", withSecret(shop.url), "known by at other.example.com")
	stolen := unit.Source{RepoURL: shop.url, Secret: unit.SecretName{Namespace: "capstan-system", Name: "capstan-git"}}
	if f := p.Latest(appNamed("c"), stolen); !errors.Is(f.Err, fleet.ErrForbidden) {
		t.Errorf("the agent's own Secret: %+v", f)
	}
}

func TestASecretHoldsWhatSSHNeeds(t *testing.T) {
	own, s := newGitServer(t), newSSHServer(t)
	own.push()
	s.newIdentity("open sesame")
	content := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := s.push()
	p := newPool(t, own.url)
	p.fails("a", from(s.url), "no private key for ssh is given")
	p.secrets.set("shop/git", "identity", content(s.identity), "password", "open sesame")
	p.fails("a", withSecret(s.url), "no file with the host keys")
	p.secrets.set("shop/git", "identity", content(s.identity), "password", "open sesame", "known_hosts", "not a line")
	wantError(t, p.fails("a", withSecret(s.url), "host keys to trust: "), "key known_hosts of Secret shop/git:1", "ssh-keyscan")
	p.secrets.set("shop/git", "identity", content(s.identity), "password", "open sesame", "known_hosts", content(s.knownHost))
	p.at("a", withSecret(s.url), first)

	// Which hosts are trusted is the spoke's to say, where it says so.
	strangers := newSSHServer(t)
	pinned := newPool(t, own.url, func(c *source.PoolConfig) {
		c.Repositories = []source.Entry{{URL: "ssh://git@" + s.address + "/*", Config: source.Config{KnownHostsFile: strangers.knownHost}}}
	})
	pinned.secrets.set("shop/git", "identity", content(s.identity), "password", "open sesame", "known_hosts", content(s.knownHost))
	pinned.fails("a", withSecret(s.url), "the host key of "+s.address+" is not known")
}
