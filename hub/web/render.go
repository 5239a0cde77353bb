package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

//go:embed templates/*.html
var templates embed.FS

// page is one page's templates: "layout" around "main", in which "live" is the
// part that is sent anew when something changes.
type page struct{ *template.Template }

func (s *site) parse() (map[string]*page, error) {
	base, err := template.New("").Funcs(s.funcs()).ParseFS(templates, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	out := map[string]*page{}
	for _, name := range []string{"fleet", "clusters", "cluster", "spread", "app", "events", "login", "logout", "error"} {
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(templates, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("web: page %s: %w", name, err)
		}
		out[name] = &page{t}
	}
	return out, nil
}

// view is what a layout is given beside the page's own data.
type view struct {
	Actor string
	// Logout is where a session ends; empty: there is none.
	Logout string
	Live   string // address of the stream; empty: the page does not change
	Page   any
}

// A page that is itself an answer to a bad question says so.
type statuser interface{ status() int }

// liver is a page that has a part which changes.
type liver interface{ liveURL() string }

func (s *site) render(w http.ResponseWriter, r *http.Request, status int, p *page, data any) {
	v := view{Actor: fleet.Actor(r.Context()), Page: data}
	if _, ok := s.session(r); ok && v.Actor != "" {
		v.Logout = logoutPath
	}
	if l, ok := data.(liver); ok {
		v.Live = l.liveURL()
	}
	if p, ok := data.(statuser); ok {
		status = p.status()
	}
	var b bytes.Buffer // whole before the first byte is sent: no half pages
	if err := p.ExecuteTemplate(&b, "layout", v); err != nil {
		s.Log.ErrorContext(r.Context(), "page not rendered", "path", r.URL.Path, "error", err)
		http.Error(w, "the hub failed at this page; its log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write(b.Bytes()); err != nil {
		s.Log.DebugContext(r.Context(), "page not delivered", "path", r.URL.Path, "error", err)
	}
}

// errorPage says what went wrong and what to do.
type errorPage struct {
	Status      int
	Title       string
	Detail      string
	Hint        string
	LoggedOut   bool
	SignIn      string // where to sign in; empty: there is no provider
	BackToFleet bool
}

type loginPage struct{}

// logoutPage says that a session has ended.
type logoutPage struct {
	SignIn string // where to sign in; empty: there is no provider
}

func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.failAs(w, r, client.StatusOf(err), err)
}

// failAs tells errors of the fleet's kinds; what another says is the log's.
func (s *site) failAs(w http.ResponseWriter, r *http.Request, status int, err error) {
	p := errorPage{
		Status: status, Title: http.StatusText(status), Detail: err.Error(), Hint: fleet.Hint(err),
		LoggedOut: status == http.StatusUnauthorized, BackToFleet: status != http.StatusUnauthorized,
	}
	if p.LoggedOut && s.SignIn != nil {
		p.SignIn = startPath
	}
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "page failed", "path", r.URL.Path, "error", err)
	}
	if status == http.StatusInternalServerError {
		p.Detail, p.Hint = "the hub failed at this", "the hub's log says why"
	}
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	s.render(w, r, status, s.pages["error"], p)
}
