// Package api serves a fleet.Hub over HTTP: JSON under /api/v1, a stream of
// change notices, and the hook that a Git server calls after a push.
//
// Who asks is known by a bearer token and by nothing else. There are no
// cookies and no CORS here, so a web page elsewhere can do nothing in a
// person's name.
package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// People tells whose a bearer token is, and answers for those who ask.
// ErrForbidden: nobody's. ErrTooOften: too many such came from there.
// ErrUnavailable: that can't be told just now.
type People interface {
	fleet.People
	Authenticate(ctx context.Context, token string) (fleet.Identity, error)
	Pacer
}

// Pacer counts what somebody asks. ErrTooOften: that is more than their share.
type Pacer interface {
	Pace(id fleet.Identity) error
}

// Logins makes one-time links to the page, for a browser that holds no token.
type Logins interface {
	// Issue returns the path, and query, that logs in as somebody, once.
	Issue(id fleet.Identity) (path string, err error)
}

// Config says what is served, and to whom. Hub, People, GitPushed and Logins
// are required. What somebody may do is for them to judge, by fleet.Who.
type Config struct {
	Hub    fleet.Hub
	People People
	// GitPushed tells every agent that something was pushed to a repository, and to
	// which of its references where that is known.
	GitPushed func(ctx context.Context, repoURL string, refs ...string) error
	Logins    Logins
	// SignIn tells programs with which provider to sign in; nil: there is none.
	SignIn *client.SignIn
	// URL is the hub's own, as people reach it, put before login links. Empty:
	// links are relative to the URL that was asked.
	URL string
	Log *slog.Logger // nil: nothing is logged
}

const (
	maxBody     = 1 << 20          // an approval for a thousand clusters is under 300 KiB
	maxHookBody = 8 << 20          // a push of many commits
	bodyTime    = 10 * time.Second // to send a request's body
	answerTime  = 30 * time.Second // to answer: an agent may have to be asked
)

type server struct {
	Config
	base  string
	pace  Pacer
	paper []byte // the OpenAPI document
}

// New makes the handler for /api/ and /hooks/.
func New(c Config) (http.Handler, error) {
	if c.Hub == nil || c.People == nil || c.GitPushed == nil || c.Logins == nil {
		return nil, errors.New("api: Hub, People, GitPushed and Logins are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Config: c, base: strings.TrimSuffix(c.URL, "/"), pace: c.People}
	routes := s.routes()
	var err error
	if s.paper, err = describe(routes); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		mux.Handle(r.method+" "+r.path, s.guard(r))
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range maps.All(methods) {
		mux.Handle(path, s.notAllowed(slices.Sorted(slices.Values(allowed))))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, fleet.WithHint(fleet.NotFound("the hub has no %s", r.URL.Path), "are client and hub of the same version?"))
	})
	return secured(mux), nil
}

// guard lets a request through to its route when its token is somebody's, and
// puts who that is and a time limit on its context.
func (s *server) guard(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !rt.open {
			id, err := s.authenticate(r)
			if err != nil {
				if errors.Is(err, fleet.ErrForbidden) {
					w.Header().Set("WWW-Authenticate", `Bearer realm="capstan"`)
				}
				s.failAs(w, r, client.StatusOfCredential(err), err)
				return
			}
			r = r.WithContext(fleet.WithIdentity(r.Context(), id))
			if err := s.pace.Pace(id); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		if err := rt.check(r); err != nil {
			s.fail(w, r, err)
			return
		}
		if rt.stream != nil {
			rt.stream(w, r)
			return
		}
		s.carryOut(w, r, rt)
	})
}

func (s *server) authenticate(r *http.Request) (fleet.Identity, error) {
	return s.People.Authenticate(r.Context(), credential(r))
}

func (s *server) carryOut(w http.ResponseWriter, r *http.Request, rt route) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	if err := readBody(w, r, rt); err != nil {
		s.fail(w, r, err)
		return
	}
	out, err := rt.serve(r.WithContext(ctx))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if r.Method != http.MethodGet {
		s.Log.InfoContext(ctx, "request carried out", "method", r.Method, "path", r.URL.Path, "actor", fleet.Actor(ctx), "from", fleet.Origin(ctx))
	}
	s.answer(w, r, rt, out)
}

// readBody takes a request's whole body in, so that only as much time and
// memory as a body may have is spent on one who sends slowly or without end.
func readBody(w http.ResponseWriter, r *http.Request, rt route) error {
	limit := int64(maxBody)
	if strings.HasPrefix(rt.path, "/hooks/") {
		limit = maxHookBody
	}
	// A recorder in a test has no connection, and so no deadlines. Nothing else fails here.
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTime))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return badBody(err)
	}
	// Left in place it would end the request, however long the answer may take.
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Now().Add(answerTime + bodyTime))
	r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

// credential is the token a request bears. GitLab sends a hook's under a
// header of its own.
func credential(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	if strings.HasPrefix(r.URL.Path, "/hooks/") {
		return r.Header.Get("X-Gitlab-Token")
	}
	return ""
}

func (s *server) notAllowed(methods []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		s.failAs(w, r, http.StatusMethodNotAllowed, fleet.Invalid("%s is not possible here, only %s", r.Method, strings.Join(methods, ", ")))
	})
}

// secured adds what keeps a browser that was led here from making anything of
// an answer.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
