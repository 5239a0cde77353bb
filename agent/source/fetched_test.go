package source_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// looks are what a pool told of its looks at one repository.
type looks chan source.Fetched

func (l looks) of(url string) func(*source.PoolConfig) {
	return func(c *source.PoolConfig) {
		c.Fetched = func(f source.Fetched) {
			if f.URL == url {
				l <- f
			}
		}
	}
}

func (l looks) next(t *testing.T) source.Fetched {
	t.Helper()
	select {
	case f := <-l:
		return f
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told of a look")
		return source.Fetched{}
	}
}

func TestEveryLookIsTold(t *testing.T) {
	own := newGitServer(t)
	own.push()
	told := make(looks, 100)
	p := newPool(t, own.url, told.of(own.url))
	f := told.next(t)
	head := p.until("root", unit.Source{}, "read", func(f unit.Followed) bool { return f.Snapshot != nil }).Snapshot.Revision()
	if f.Follows != "branch main" || f.Revision != head || !f.New || f.Err != nil || f.Began.IsZero() || f.Took <= 0 {
		t.Errorf("the first look: %+v", f)
	}
	p.FetchSoon(appNamed("root"))
	if f := told.next(t); f.Revision != head || f.New || f.Err != nil {
		t.Errorf("a look that finds nothing new: %+v", f)
	}
	own.fail(http.StatusServiceUnavailable)
	p.FetchSoon(appNamed("root"))
	if f := told.next(t); f.Revision != "" || f.New || f.Err == nil {
		t.Errorf("a look that fails: %+v", f)
	}
}

// A mirror that serves makes a repository no younger, nor does a Secret that can't
// be read.
func TestWhenARepositoryWasLastReached(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	m, update := mirrorOf(t, shop)
	first := shop.push()
	update()
	told := make(looks, 100)
	before := time.Now()
	p := newPool(t, own.url, told.of(shop.url), func(c *source.PoolConfig) {
		c.Repositories = []source.Entry{{URL: shop.url, Config: source.Config{Mirrors: []string{m.url}}}, {URL: own.http.URL + "/*"}}
	})
	reached := func(url string) time.Time {
		t.Helper()
		all := p.Reached()
		for i, r := range all {
			if i > 0 && all[i-1].URL > r.URL {
				t.Errorf("out of order: %+v", all)
			}
			if r.URL == url {
				return r.At
			}
		}
		t.Fatalf("nothing is known of %s: %+v", url, all)
		return time.Time{}
	}
	p.at("a", from(shop.url), first)
	told.next(t)
	at := reached(shop.url)
	if at.Before(before) || at.After(time.Now()) {
		t.Errorf("reached at %s, began at %s", at, before)
	}
	p.FetchSoon(appNamed("a"))
	told.next(t)
	later := reached(shop.url)
	if !later.After(at) {
		t.Error("a look that finds nothing new does not count")
	}
	second := shop.push()
	update()
	shop.fail(http.StatusServiceUnavailable)
	p.FetchSoon(appNamed("a"))
	p.at("a", from(shop.url), second)
	if got := reached(shop.url); !got.Equal(later) {
		t.Errorf("a mirror made it %s younger", got.Sub(later))
	}
	gone := own.http.URL + "/gone.git"
	p.fails("gone", unit.Source{RepoURL: gone}, "no such repository")
	if got := reached(gone); got.Before(later) {
		t.Errorf("what was never reached is as old as its first look, not %s", got)
	}
}

func TestASecretThatCannotBeReadIsNoAnswer(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	first := shop.push()
	told := make(looks, 100)
	p := newPool(t, own.url, told.of(shop.url))
	p.secrets.set("shop/git", "username", "reader", "password", "hunter2")
	p.at("a", withSecret(shop.url), first)
	told.next(t)
	at := func() time.Time {
		for _, r := range p.Reached() {
			if r.URL == shop.url {
				return r.At
			}
		}
		return time.Time{}
	}
	was := at()
	p.secrets.set("shop/git", "username", "reader")
	if f := told.next(t); f.Err == nil || f.Revision != "" {
		t.Fatalf("a Secret without a password: %+v", f)
	}
	if got := at(); !got.Equal(was) {
		t.Errorf("it made the repository %s younger", got.Sub(was))
	}
}
