package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const cookieName = "capstan_session"

// guard lets those in who bear a token (curl) or have a session (a browser).
func (s *site) guard(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := s.who(r)
		if err == nil {
			err = s.People.Pace(id)
		}
		switch {
		case errors.Is(err, fleet.ErrForbidden):
			w.Header().Set("WWW-Authenticate", `Bearer realm="capstan"`)
			s.failAs(w, r, http.StatusUnauthorized, err)
		case err != nil:
			s.fail(w, r, err)
		default:
			next(w, r.WithContext(fleet.WithIdentity(r.Context(), id)))
		}
	})
}

func (s *site) who(r *http.Request) (fleet.Identity, error) {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return s.People.Authenticate(r.Context(), strings.TrimSpace(token))
	}
	if secret, ok := s.session(r); ok {
		if se := s.Sessions.find(secret); se != nil {
			id, err := s.holder(r.Context(), se)
			if err != nil {
				return fleet.Identity{}, err
			}
			return s.People.Still(r.Context(), id)
		}
	}
	return fleet.Identity{}, fleet.Forbidden("you are not logged in")
}

// session is what a browser shows as its session's secret, unless it bears a token.
func (s *site) session(r *http.Request) (secret string, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil || r.Header.Get("Authorization") != "" {
		return "", false
	}
	return c.Value, true
}

const logoutPath = "/logout"

// logout ends a session. A page elsewhere can't: the cookie is not sent along
// with its request.
func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	if secret, ok := s.session(r); ok {
		s.Sessions.end(secret)
	}
	c := s.cookie(r, "")
	c.MaxAge = -1
	http.SetCookie(w, c)
	var p logoutPage
	if s.SignIn != nil {
		p.SignIn = startPath
	}
	s.render(w, r, http.StatusOK, s.pages["logout"], p)
}

// login exchanges a one-time link for a session. It answers with a page that
// goes on to the fleet by itself, not with a redirect: a cookie that is
// SameSite=Strict is not sent along one when the link was followed from
// another site, a chat for instance.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // HEAD: something looks at the link before the person does
		w.WriteHeader(http.StatusNoContent)
		return
	}
	session, until, err := s.Sessions.redeem(r.URL.Query().Get("code"))
	if err != nil {
		s.failAs(w, r, client.StatusOfCredential(err), err)
		return
	}
	c := s.cookie(r, session)
	c.MaxAge = int(until.Sub(s.Now()).Seconds()) // not Expires: the browser's clock may be off
	http.SetCookie(w, c)
	s.render(w, r, http.StatusOK, s.pages["login"], loginPage{})
}

func (s *site) cookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: s.secure || r.TLS != nil,
	}
}
