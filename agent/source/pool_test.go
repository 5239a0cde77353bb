package source_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// pool is a Pool at work among fakes of the API server.
type pool struct {
	*source.Pool
	t       *testing.T
	secrets *secrets
	heads   *heads
	moved   chan unit.Moved
	stop    func() error
}

func newPool(t *testing.T, own string, change ...func(*source.PoolConfig)) *pool {
	t.Helper()
	p := &pool{t: t, secrets: newSecrets(), heads: &heads{}}
	p.start(own, change...)
	return p
}

// start starts it, anew after a stop. It looks when asked to, not by itself.
func (p *pool) start(own string, change ...func(*source.PoolConfig)) {
	p.t.Helper()
	cfg := source.PoolConfig{
		Own:       source.Config{URL: own, Ref: source.Ref{Branch: "main"}},
		Namespace: "capstan-system", Poll: time.Hour,
	}
	for _, c := range change {
		c(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		p.t.Fatal(err)
	}
	var err error
	if p.Pool, err = source.NewPool(cfg, p.heads, p.secrets, slog.New(slog.DiscardHandler)); err != nil {
		p.t.Fatal(err)
	}
	p.moved = make(chan unit.Moved, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, func(m unit.Moved) { p.moved <- m }) }()
	p.stop = sync.OnceValue(func() error { cancel(); return <-done })
	p.t.Cleanup(func() { _ = p.stop() })
}

func appNamed(name string) fleet.AppName { return fleet.AppName{Namespace: "shop", Name: name} }

func from(url string) unit.Source { return unit.Source{RepoURL: url} }

func withSecret(url string) unit.Source {
	return unit.Source{RepoURL: url, Secret: unit.SecretName{Namespace: "shop", Name: "git"}}
}

// until waits until what an app is read from is as described.
func (p *pool) until(app string, s unit.Source, what string, ok func(unit.Followed) bool) unit.Followed {
	p.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		f := p.Latest(appNamed(app), s)
		if ok(f) {
			return f
		}
		select {
		case <-p.moved:
		case <-limit:
			p.t.Fatalf("%s: not %s: %+v", app, what, f)
		}
	}
}

func (p *pool) at(app string, s unit.Source, commit string) unit.Followed {
	p.t.Helper()
	return p.until(app, s, "at "+commit, func(f unit.Followed) bool {
		return f.Err == nil && f.Snapshot != nil && f.Snapshot.Commit == commit
	})
}

func (p *pool) fails(app string, s unit.Source, text string) error {
	p.t.Helper()
	return p.until(app, s, "failing with "+text, func(f unit.Followed) bool {
		return f.Err != nil && strings.Contains(f.Err.Error(), text)
	}).Err
}

// secrets are told to whom follows them.
type secrets struct {
	mu    sync.Mutex
	data  map[string]map[string][]byte
	moved chan struct{}
	open  sync.WaitGroup
}

func newSecrets() *secrets {
	return &secrets{data: map[string]map[string][]byte{}, moved: make(chan struct{})}
}

func (s *secrets) set(name string, pairs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = []byte(pairs[i+1])
	}
	s.data[name] = data
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *secrets) Follow(ctx context.Context, namespace, name string, tell func(map[string][]byte, error)) {
	s.open.Add(1)
	defer s.open.Done()
	for {
		s.mu.Lock()
		data, moved := s.data[namespace+"/"+name], s.moved
		s.mu.Unlock()
		if data == nil {
			tell(nil, fleet.WithHint(fleet.NotFound("there is no Secret %s/%s", namespace, name), "make it"))
		} else {
			tell(data, nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
	}
}

// heads keeps them in memory.
type heads struct {
	mu    sync.Mutex
	kept  source.Kept
	saves int
	err   error
}

func (h *heads) Load(context.Context) (source.Kept, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kept, nil
}

func (h *heads) Save(_ context.Context, k source.Kept) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.kept = k
	h.saves++
	return nil
}

// newShop serves a repository under another name.
func newShop(t *testing.T) *gitServer {
	t.Helper()
	s := newGitServerOn(t, func(h http.Handler) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, rest, _ := strings.Cut(path.Clean(r.URL.Path), "/shop") // with and without .git, as servers do
			r.URL.Path = "/fleet.git" + strings.TrimPrefix(rest, ".git")
			h.ServeHTTP(w, r)
		}))
	})
	s.url = s.http.URL + "/shop.git"
	return s
}

func TestOneFetchServesAllAppsOfARepository(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	first := shop.push()
	p := newPool(t, own.url)
	names := []string{"a", "b", "c", "d"}
	for _, n := range names {
		p.Latest(appNamed(n), from(shop.url))
	}
	for _, n := range names {
		p.at(n, from(shop.url), first)
	}
	if n := shop.packs.Load(); n != 1 {
		t.Errorf("%d apps cost %d fetches", len(names), n)
	}
	second := shop.push()
	p.Pushed(fleet.Push{RepoURL: shop.url})
	for _, n := range names {
		p.at(n, from(shop.url), second)
	}
	if n := shop.packs.Load(); n != 2 {
		t.Errorf("a commit cost %d fetches", n-1)
	}
}

func TestAPushConcernsRepositoriesOfThatName(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	p := newPool(t, own.url)
	p.at("a", from(shop.url), shop.push())
	p.until("root", unit.Source{}, "read", func(f unit.Followed) bool { return f.Snapshot != nil })
	asked := own.requests.Load()
	second := shop.push()
	p.Pushed(fleet.Push{RepoURL: "ssh://git@elsewhere.example.com/team/Shop.git"})
	p.at("a", from(shop.url), second)
	if n := own.requests.Load(); n != asked {
		t.Error("a push to another repository had this one looked at")
	}
	p.at("a", from(shop.url), second)
	third := own.push()
	p.Pushed(fleet.Push{})
	p.at("root", unit.Source{}, third)
}

func TestAPushToWhatIsNotFollowedIsNotLookedAt(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	p := newPool(t, own.url)
	p.at("a", from(shop.url), shop.push())
	p.until("root", unit.Source{}, "read", func(f unit.Followed) bool { return f.Snapshot != nil })
	asked := shop.requests.Load()
	p.Pushed(fleet.Push{RepoURL: shop.url, Refs: []string{"refs/heads/feature", "refs/tags/v1"}})
	p.Pushed(fleet.Push{RepoURL: shop.url, Refs: []string{"refs/heads/main2"}})
	last := own.push()
	p.Pushed(fleet.Push{RepoURL: own.url, Refs: []string{"refs/heads/feature", "refs/heads/main"}})
	p.at("root", unit.Source{}, last)
	if n := shop.requests.Load(); n != asked {
		t.Errorf("a push to another branch cost %d requests", n-asked)
	}
	second := shop.push()
	p.Pushed(fleet.Push{RepoURL: shop.url, Refs: []string{"refs/heads/main"}})
	p.at("a", from(shop.url), second)
}

func TestARepositoryThatStallsDelaysNoOther(t *testing.T) {
	left := make(chan struct{})
	stall := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(left)
	}))
	t.Cleanup(stall.Close)
	own, shop := newGitServer(t), newShop(t)
	p := newPool(t, own.url)
	if f := p.Latest(appNamed("slow"), from(stall.URL+"/slow.git")); f.Snapshot != nil || f.Err != nil {
		t.Fatalf("got %+v", f)
	}
	p.at("a", from(shop.url), shop.push())
	last := own.push()
	p.Pushed(fleet.Push{})
	p.at("root", unit.Source{}, last)
	p.Drop(appNamed("slow"))
	select {
	case <-left: // nobody waits for it any more
	case <-time.After(20 * time.Second):
		t.Error("a repository that nobody uses is still read")
	}
}

func TestTheAgentsOwnRepositoryCanBeReadAtAnotherRef(t *testing.T) {
	own := newGitServer(t)
	own.allow("", "", "own token")
	p := newPool(t, own.url, func(c *source.PoolConfig) { c.Own.BearerTokenFile = tokenFile(t, "own token") })
	first := own.push()
	run(t, own.work, "push", "-q", "origin", "HEAD:next")
	second := own.push()
	next := unit.Source{Ref: unit.Ref{Branch: "next"}}
	if f := p.at("a", next, first); f.Own {
		t.Error("it is taken for what the agent itself follows")
	}
	p.Pushed(fleet.Push{})
	p.at("root", unit.Source{}, second)
	for _, s := range []unit.Source{
		from(own.url), from(strings.TrimSuffix(own.url, ".git")), {RepoURL: own.url, Ref: unit.Ref{Branch: "main"}}, {Ref: unit.Ref{Branch: "main"}},
	} {
		if f := p.Latest(appNamed("b"), s); !f.Own || f.Snapshot == nil || f.Snapshot.RepoURL != own.url {
			t.Errorf("%+v is not the agent's own: %+v", s, f)
		}
	}
	if f := p.Latest(appNamed("b"), unit.Source{RepoURL: own.url, Ref: unit.Ref{Branch: "next"}}); f.Own || f.Snapshot == nil {
		t.Errorf("another ref of it: %+v", f)
	}
}

func TestACommitIsWrittenDownBeforeItCounts(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	ownFirst, shopFirst := own.push(), shop.push()
	holds := func(c *source.PoolConfig) { c.Own.HoldRewinds = true }
	p := newPool(t, own.url, holds)
	p.at("root", unit.Source{}, ownFirst)
	p.at("a", from(shop.url), shopFirst)
	p.heads.mu.Lock()
	kept := p.heads.kept
	p.heads.mu.Unlock()
	if kept.Commit != ownFirst || len(kept.Others) != 1 || kept.Others[0] != (unit.Head{RepoURL: shop.url, Ref: "main", Commit: shopFirst, Follows: "branch main"}) {
		t.Errorf("kept %+v", kept)
	}

	// Moved during a restart, each is held, and let pass by itself.
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	own.push("--amend", "--date=2001-01-01T00:00:00Z")
	moved := shop.push("--amend", "--date=2001-01-01T00:00:00Z")
	p.start(own.url, holds)
	p.fails("root", unit.Source{}, "was moved from "+ownFirst)
	err := p.fails("a", from(shop.url), "was moved from "+shopFirst)
	e, _ := errors.AsType[*unit.RewoundError](err)
	p.Accept(appNamed("a"), e.Accept())
	p.at("a", from(shop.url), moved)
	if f := p.Latest(appNamed("root"), unit.Source{}); f.Err == nil {
		t.Error("the agent's own branch was let pass along with another")
	}

	// What nobody reads any more is not kept for ever.
	p.Drop(appNamed("a"))
	p.at("b", unit.Source{RepoURL: shop.url, Ref: unit.Ref{Commit: moved}}, moved)
	p.heads.mu.Lock()
	defer p.heads.mu.Unlock()
	if o := p.heads.kept.Others; len(o) != 1 || o[0].Follows != "commit "+moved {
		t.Errorf("kept %+v", o)
	}
}

func TestWhereNothingIsHeldNothingIsWrittenDown(t *testing.T) {
	own := newGitServer(t)
	commit := own.push()
	p := newPool(t, own.url)
	p.at("root", unit.Source{}, commit)
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if p.heads.saves != 0 {
		t.Error("a commit was written down")
	}
}

func TestAnotherAgentThatWritesEndsThePool(t *testing.T) {
	own := newGitServer(t)
	own.push()
	h := &heads{err: fleet.Conflict("somebody else wrote it")}
	p, err := source.NewPool(source.PoolConfig{
		Own: source.Config{URL: own.url, Ref: source.Ref{Branch: "main"}, HoldRewinds: true}, Poll: time.Hour,
	}, h, newSecrets(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), func(unit.Moved) {}); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

func TestWhichPlaceServesIsTold(t *testing.T) {
	own, shop := newGitServer(t), newShop(t)
	own.push()
	m, update := mirrorOf(t, shop)
	first := shop.push()
	update()
	p := newPool(t, own.url, func(c *source.PoolConfig) {
		c.Repositories = []source.Entry{{URL: shop.url, Config: source.Config{Mirrors: []string{m.url}}}, {URL: own.http.URL + "/*"}}
	})
	f := p.at("a", from(shop.url), first)
	if s := f.Status; s != (fleet.SourceStatus{URL: shop.url, Follows: "branch main", Head: f.Snapshot.Revision(), ServedBy: shop.url}) {
		t.Errorf("while it answers: %+v", s)
	}
	gone := unit.Source{RepoURL: own.http.URL + "/gone.git", Ref: unit.Ref{Tag: "v1"}}
	p.fails("gone", gone, "no such repository")
	second := shop.push()
	update()
	shop.fail(http.StatusServiceUnavailable)
	p.FetchSoon(appNamed("a"))
	f = p.at("a", from(shop.url), second)
	if s := f.Status; s.ServedBy != m.url || !s.Failing || s.Reached.IsZero() || !strings.Contains(s.Message, "status 503") {
		t.Errorf("while a mirror serves: %+v", s)
	}
	third := shop.push()
	update()
	p.FetchSoon(appNamed("a"))
	later := p.at("a", from(shop.url), third)
	if was := f.Status; later.Status.Reached != was.Reached || later.Status.Message != was.Message {
		t.Errorf("every look is news: %+v", later.Status)
	}
	all := p.Statuses()
	if len(all) != 3 || all[0].URL != own.url || !slices.Contains(all, later.Status) {
		t.Fatalf("got %+v", all)
	}
	i := slices.IndexFunc(all, func(s fleet.SourceStatus) bool { return s.Follows == "tag v1" })
	if i < 0 || !all[i].Failing || !all[i].Reached.IsZero() || all[i].ServedBy != "" {
		t.Errorf("got %+v", all)
	}
}
