// Package web is the hub's page for browsers: server-rendered HTML that is
// whole without JavaScript, and live with it. It shows; all that can be changed
// here is whether an app is held. Approvals are signed with a person's own key,
// which a page never sees.
package web

import (
	"context"
	"embed"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// People tells whose a bearer token is. ErrForbidden: nobody's. ErrTooOften: too
// many such came from there. ErrUnavailable: that can't be told just now.
type People interface {
	Authenticate(ctx context.Context, token string) (fleet.Identity, error)
	// Still tells who somebody is now whose session began earlier. ErrForbidden:
	// the credential that it began with is no more, and the session ends with it.
	Still(ctx context.Context, id fleet.Identity) (fleet.Identity, error)
	// Pace counts a request of somebody. ErrTooOften: that is more than their share.
	Pace(id fleet.Identity) error
}

// Config says what is shown, and to whom. Hub, People and Sessions are required.
// What somebody may see is for the Hub to judge, by fleet.Who.
type Config struct {
	Hub      fleet.Hub
	People   People
	Sessions *Sessions
	SignIn   SignIn // nil: there is no identity provider
	// URL is the hub's own, as people reach it. With https, cookies are marked
	// for it alone, also when TLS ends at a proxy.
	URL string
	Now func() time.Time // nil: the real clock
	Log *slog.Logger     // nil: nothing is logged
}

//go:embed static
var static embed.FS

type site struct {
	Config
	pages  map[string]*page
	assets map[string]asset
	base   string // URL, without a slash at its end
	secure bool   // cookies over TLS only
}

// New makes the handler for everything that is not the API.
func New(c Config) (http.Handler, error) {
	if c.Hub == nil || c.People == nil || c.Sessions == nil {
		return nil, errors.New("web: Hub, People and Sessions are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &site{Config: c, base: strings.TrimSuffix(c.URL, "/"), secure: strings.HasPrefix(c.URL, "https://")}
	var err error
	if s.assets, err = loadAssets(static); err != nil {
		return nil, err
	}
	if s.pages, err = s.parse(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/", s.asset)
	mux.HandleFunc("GET /login", s.login)
	ours := http.NewCrossOriginProtection()
	mux.Handle("POST "+logoutPath, ours.Handler(http.HandlerFunc(s.logout)))
	mux.Handle("POST /clusters/{cluster}/{namespace}/{app}/{order}", ours.Handler(s.guard(s.order)))
	if c.SignIn != nil {
		mux.HandleFunc("GET "+startPath, s.start)
		mux.HandleFunc("GET "+callbackPath, s.callback)
	}
	for pattern, v := range map[string]struct {
		page  string
		build builder
	}{
		"/{$}":                                  {"fleet", s.fleet},
		"/clusters":                             {"clusters", s.clusters},
		"/clusters/{cluster}":                   {"cluster", s.cluster},
		"/events":                               {"events", s.events},
		"/apps/{namespace}/{app}":               {"spread", s.spread},
		"/clusters/{cluster}/{namespace}/{app}": {"app", s.app},
	} {
		mux.Handle("GET "+pattern, s.guard(s.show(s.pages[v.page], v.build)))
		mux.Handle("GET /live"+pattern, s.guard(s.live(s.pages[v.page], v.build)))
	}
	mux.Handle("/", s.guard(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, fleet.NotFound("there is no page %s", r.URL.Path))
	}))
	return secured(mux), nil
}

// A builder gathers what a page shows. live is set when only the part that
// changes is wanted: what an agent must be asked for is left out then.
type builder func(r *http.Request, live bool) (any, error)

// show answers with the whole page.
func (s *site) show(p *page, build builder) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pageTime)
		defer cancel()
		data, err := build(r.WithContext(ctx), false)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.render(w, r, http.StatusOK, p, data)
	}
}

const pageTime = 20 * time.Second

// secured forbids a page everything it does not need: scripts and styles are
// files of ours, and nothing is sent or framed anywhere else.
func secured(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
