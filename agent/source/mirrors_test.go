package source_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// mirrorOf serves a copy that is brought up to date when update is called.
func mirrorOf(t *testing.T, s *gitServer) (m *gitServer, update func()) {
	t.Helper()
	m = newGitServer(t)
	return m, func() { run(t, m.bare, "fetch", "-q", "--prune", s.bare, "+refs/*:refs/*") }
}

func withMirrors(urls ...string) func(*source.Config) {
	return func(c *source.Config) { c.Mirrors = urls }
}

func TestAMirrorServesWhileTheRepositoryFails(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	m, update := mirrorOf(t, s)
	update()
	r := s.open(withMirrors(m.url))
	first := fetch(t, r)
	if first.From != s.url || first.Notice != "" || m.requests.Load() != 0 {
		t.Errorf("from %s, notice %q, %d requests to the mirror", first.From, first.Notice, m.requests.Load())
	}
	s.write("f", "2")
	second := s.push()
	update()
	s.fail(http.StatusServiceUnavailable)
	got := fetch(t, r)
	if got.Commit != second || got.From != m.url || got.RepoURL != s.url {
		t.Errorf("got %s of %s from %s", got.Commit, got.RepoURL, got.From)
	}
	for _, want := range []string{"read from the mirror " + m.url, "repository " + s.url, "status 503", "last reached at "} {
		if !strings.Contains(got.Notice, want) {
			t.Errorf("notice %q lacks %q", got.Notice, want)
		}
	}
	if again := fetch(t, r); again != got {
		t.Error("nothing changed, and the snapshot is another one")
	}
}

func TestAPlaceThatFailsIsAskedLessOften(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	m, update := mirrorOf(t, s)
	update()
	r := s.open(withMirrors(m.url))
	now := time.Now()
	r.SetClock(func() time.Time { return now })
	s.fail(http.StatusServiceUnavailable)
	fetch(t, r)
	asked := s.requests.Load()
	fetch(t, r)
	if s.requests.Load() != asked {
		t.Error("it was asked again at once")
	}
	now = now.Add(time.Minute)
	fetch(t, r)
	if s.requests.Load() == asked {
		t.Error("it was not asked again")
	}
	asked = s.requests.Load()
	now = now.Add(-24 * time.Hour) // a clock that is set back
	fetch(t, r)
	if s.requests.Load() == asked {
		t.Error("a clock that was set back keeps it from being asked")
	}
	s.fail(0)
	now = now.Add(48 * time.Hour)
	s.write("f", "2")
	commit := s.push()
	if got := fetch(t, r); got.Commit != commit || got.Notice != "" || got.From != s.url {
		t.Errorf("when it is back: %s from %s, notice %q", got.Commit, got.From, got.Notice)
	}
}

func TestAMirrorThatIsBehindTurnsNothingBack(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	first := s.push()
	m, update := mirrorOf(t, s)
	update()
	s.write("f", "2")
	s.push()
	r := s.open(withMirrors(m.url))
	have := fetch(t, r)
	s.fail(http.StatusServiceUnavailable)
	got := fetch(t, r)
	if got.Commit != have.Commit || !strings.Contains(got.Notice, "mirror "+m.url+" is behind: it has main@sha1:"+first[:8]) {
		t.Errorf("got %s, notice %q", got.Commit, got.Notice)
	}
	packs := m.packs.Load()
	fetch(t, r)
	if m.packs.Load() != packs {
		t.Error("the older commit was downloaded again")
	}
	// A later mirror that is not behind serves.
	m2, update2 := mirrorOf(t, s)
	s.write("f", "3")
	third := s.push()
	update2()
	r = s.open(withMirrors(m.url, m2.url))
	s.fail(0)
	run(t, s.bare, "update-ref", "refs/heads/main", have.Commit)
	fetch(t, r)
	s.fail(http.StatusServiceUnavailable)
	if got = fetch(t, r); got.Commit != third || got.From != m2.url {
		t.Errorf("got %s from %s", got.Commit, got.From)
	}
	// When the mirror has caught up, it serves.
	s.fail(0)
	run(t, s.bare, "update-ref", "refs/heads/main", third)
	for range 40 {
		run(t, s.work, "commit", "-q", "--allow-empty", "-m", "more")
	}
	last := s.push()
	update()
	s.fail(http.StatusServiceUnavailable)
	if got = fetch(t, r); got.Commit != last {
		t.Errorf("got %s, want %s", got.Commit, last)
	}
}

func TestWhereTheServerFiltersDescentCostsCommitsAlone(t *testing.T) {
	s := newGitServer(t)
	m, update := mirrorOf(t, s)
	run(t, m.bare, "config", "uploadpack.allowFilter", "true")
	s.write("f", "1")
	s.push()
	r := s.open(withMirrors(m.url))
	fetch(t, r)
	for range 100 {
		run(t, s.work, "commit", "-q", "--allow-empty", "-m", "more")
	}
	s.write("f", "2")
	last := s.push()
	update()
	s.fail(http.StatusServiceUnavailable)
	if got := fetch(t, r); got.Commit != last || read(t, got, "f") != "2" {
		t.Errorf("got %s, want %s: notice %q", got.Commit, last, got.Notice)
	}
}

func TestVersionsOrderMirrorsOfTags(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	s.tag("v1.0.0", "")
	m, update := mirrorOf(t, s)
	update()
	run(t, s.work, "checkout", "-q", "--orphan", "fresh") // versions need no common history
	s.write("f", "2")
	s.push()
	s.tag("v1.1.0", "")
	r := s.open(withMirrors(m.url), func(c *source.Config) { c.Ref = source.Ref{Semver: "1.x"} })
	fetch(t, r)
	s.fail(http.StatusServiceUnavailable)
	if got := fetch(t, r); got.Ref != "v1.1.0" || !strings.Contains(got.Notice, "is behind: it has v1.0.0@") {
		t.Errorf("got %s, notice %q", got.Ref, got.Notice)
	}
	run(t, s.work, "checkout", "-q", "--orphan", "fresher")
	s.write("f", "3")
	s.push()
	s.tag("v1.2.0", "")
	update()
	if got := fetch(t, r); got.Ref != "v1.2.0" {
		t.Errorf("got %s, notice %q", got.Ref, got.Notice)
	}
}

func TestMirrorsThatFailInEveryWay(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	good, update := mirrorOf(t, s)
	update()
	locked, update := mirrorOf(t, s)
	update()
	locked.allow("u", "p", "")
	serve := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL + "/fleet.git"
	}
	var leaked bool
	urls := []string{
		serve(func(w http.ResponseWriter, r *http.Request) {
			leaked = leaked || r.Header.Get("Authorization") != ""
			_, _ = w.Write([]byte("garbage"))
		}),
		serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), // stalls
		serve(func(w http.ResponseWriter, r *http.Request) { // cuts short
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			if r.URL.Path == "/fleet.git/git-upload-pack" {
				body = body[:len(body)-30]
			}
			_, _ = w.Write(body)
		}),
		locked.url,
		"file:///does/not/exist",
	}
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, secret)
	open := func(mirrors []string) *source.Repository {
		return s.open(withMirrors(mirrors...), func(c *source.Config) { c.Timeout, c.BearerTokenFile = time.Second, token })
	}
	r := open(urls)
	fetch(t, r)
	s.fail(http.StatusServiceUnavailable)
	_, err := r.Fetch(t.Context())
	for _, want := range []string{"status 503", "the fetch failed", "no complete answer", "asks for credentials", "no such file"} {
		wantError(t, err, want, "log")
	}
	if !errors.Is(err, fleet.ErrUnavailable) || !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("not told apart: %v", err)
	}
	got := fetch(t, open(append(urls, good.url)))
	if got.From != good.url || read(t, got, "f") != "1" {
		t.Errorf("got %s from %s", got.Commit, got.From)
	}
	if leaked {
		t.Error("the credentials went to another host")
	}
}
