package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const cookieName = "capstan_session"

// guard lets those in who bear a token (curl) or have a session (a browser).
func (s *site) guard(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := s.who(r)
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
	if c, err := r.Cookie(cookieName); err == nil {
		if se := s.Sessions.find(c.Value); se != nil {
			id, err := s.holder(r.Context(), se)
			if err != nil {
				return fleet.Identity{}, err
			}
			return s.People.Still(r.Context(), id)
		}
	}
	return fleet.Identity{}, fleet.Forbidden("you are not logged in")
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
		s.failAs(w, r, unauthorized(err), err)
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
