package source_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// between serves a repository, until something stands between.
func between(t *testing.T) (s *gitServer, put func(http.HandlerFunc)) {
	t.Helper()
	var now atomic.Pointer[http.HandlerFunc]
	s = newGitServerOn(t, func(h http.Handler) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f := now.Load(); f != nil {
				(*f)(w, r)
				return
			}
			h.ServeHTTP(w, r)
		}))
	})
	return s, func(f http.HandlerFunc) {
		now.Store(nil)
		if f != nil {
			now.Store(&f)
		}
	}
}

// Whatever becomes of a repository: what was read last stays, the reason is
// told, and it goes on by itself when the repository is well.
func TestARepositoryGoesBadAndWellAgain(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		kind       error
		breaks     func(t *testing.T, s *gitServer, put func(http.HandlerFunc))
	}{
		{"garbage", "the fetch failed", fleet.ErrUnavailable, func(_ *testing.T, _ *gitServer, put func(http.HandlerFunc)) {
			put(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\x00\xff garbage")) })
		}},
		{"cut short", "unexpected EOF", fleet.ErrUnavailable, func(_ *testing.T, s *gitServer, put func(http.HandlerFunc)) {
			defer s.push() // so that there is something to bring
			put(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				s.ServeHTTP(rec, r)
				body := rec.Body.Bytes()
				if r.URL.Path == "/fleet.git/git-upload-pack" {
					body = body[:len(body)-30]
				}
				_, _ = w.Write(body)
			})
		}},
		{"stalls for ever", "no complete answer within", fleet.ErrUnavailable, func(_ *testing.T, _ *gitServer, put func(http.HandlerFunc)) {
			put(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // until then a server does not notice that the client left
				<-r.Context().Done()
			})
		}},
		{"asks for credentials", "the server asks for credentials", fleet.ErrForbidden, func(_ *testing.T, s *gitServer, _ func(http.HandlerFunc)) {
			s.allow("u", "p", "")
		}},
		{"is emptied", "the repository is empty", fleet.ErrNotFound, func(t *testing.T, s *gitServer, _ func(http.HandlerFunc)) {
			t.Helper()
			run(t, s.bare, "update-ref", "-d", "refs/heads/main")
		}},
		{"loses its branch", `there is no branch "main"`, fleet.ErrNotFound, func(t *testing.T, s *gitServer, _ func(http.HandlerFunc)) {
			t.Helper()
			run(t, s.bare, "branch", "-m", "main", "trunk")
		}},
		{"is moved to nowhere", "there is no such repository", fleet.ErrNotFound, func(_ *testing.T, s *gitServer, put func(http.HandlerFunc)) {
			put(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/moved.git/info/refs" {
					http.NotFound(w, r)
					return
				}
				http.Redirect(w, r, s.http.URL+"/moved.git/info/refs?"+r.URL.RawQuery, http.StatusMovedPermanently)
			})
		}},
		{"is rewritten", "was moved from", fleet.ErrForbidden, func(_ *testing.T, s *gitServer, _ func(http.HandlerFunc)) {
			s.push("--amend", "--date=2001-01-01T00:00:00Z")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			own := newGitServer(t)
			own.push()
			s, put := between(t)
			s.write("f", "good")
			good := s.push()
			p := newPool(t, own.url+"/other", func(c *source.PoolConfig) {
				c.Own.Timeout, c.Own.HoldRewinds, c.Poll = 2*time.Second, true, 20*time.Millisecond
			})
			p.at("a", from(s.url), good)

			tt.breaks(t, s, put)
			f := p.until("a", from(s.url), "failing", func(f unit.Followed) bool { return f.Err != nil })
			if f.Snapshot == nil || f.Snapshot.Commit != good || read(t, *f.Snapshot, "f") != "good" {
				t.Errorf("what was read last is lost: %+v", f.Snapshot)
			}
			wantError(t, f.Err, tt.says, "")
			if !errors.Is(f.Err, tt.kind) || fleet.Hint(f.Err) == "" {
				t.Errorf("not told apart, or without a hint: %v", f.Err)
			}

			put(nil)
			s.allow("", "", "")
			if tt.name == "is rewritten" {
				run(t, s.work, "reset", "-q", "--hard", good)
			}
			s.write("f", "mended")
			mended := s.push()
			f = p.at("a", from(s.url), mended)
			if f.Status.Failing || f.Status.Message != "" {
				t.Errorf("still said: %+v", f.Status)
			}
		})
	}
}

func TestAServerLeadsNobodyWhereAppsMayNotBeReadFrom(t *testing.T) {
	own, inside := newGitServer(t), newGitServerOn(t, func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.2:0") // another host
		if err != nil {
			t.Fatal(err)
		}
		s.Listener.Close()
		s.Listener = l
		s.Start()
		return s
	})
	own.push()
	there := inside.push()
	s, put := between(t)
	s.push()
	put(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.http.URL+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
	entries := []source.Entry{{URL: s.url}}
	p := newPool(t, own.url, func(c *source.PoolConfig) { c.Repositories = entries })
	err := p.fails("a", from(s.url), "the server leads to one that this cluster does not let Apps read from")
	if !errors.Is(err, fleet.ErrForbidden) || fleet.Hint(err) == "" || strings.Contains(err.Error(), "127.0.0.2") {
		t.Errorf("got %v", err)
	}
	if n := inside.requests.Load(); n != 0 {
		t.Errorf("%d requests reached it", n)
	}
	entries = append(entries, source.Entry{URL: inside.http.URL + "/*"})
	p = newPool(t, own.url, func(c *source.PoolConfig) { c.Repositories = entries })
	p.at("a", from(s.url), there)
}

func TestARepositoryThatMovedIsFollowedThere(t *testing.T) {
	own, moved := newGitServer(t), newGitServer(t)
	own.push()
	s, put := between(t)
	p := newPool(t, own.url)
	p.at("a", from(s.url), s.push())
	put(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, moved.http.URL+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
	there := moved.push()
	p.FetchSoon(appNamed("a"))
	if f := p.at("a", from(s.url), there); f.Snapshot.RepoURL != s.url {
		t.Errorf("it goes by %s now", f.Snapshot.RepoURL)
	}
}
