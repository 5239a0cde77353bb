package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin"
)

// SignIn signs people in with an identity provider, by authorisation code with
// PKCE. Every method may return ErrForbidden, and ErrUnavailable where the
// provider can't be reached.
type SignIn interface {
	// Begin says where the browser is to go; it comes back to redirect.
	Begin(ctx context.Context, redirect string) (address string, a signin.Attempt, err error)
	// Finish tells who came back, how long that holds, and with what it can be
	// asked for again (empty: it can't).
	Finish(ctx context.Context, redirect string, a signin.Attempt, state, code string) (id fleet.Identity, until time.Time, refresh string, err error)
	// Renew asks again. ErrForbidden: the provider gives no more.
	Renew(ctx context.Context, refresh string) (id fleet.Identity, until time.Time, next string, err error)
}

const (
	attemptCookie = "capstan_signin"
	attemptLife   = 10 * time.Minute
	startPath     = "/login/start"
	callbackPath  = "/login/callback"
	renewTime     = 10 * time.Second
)

// start sends the browser to the provider. What must come back is kept in a
// cookie, so that any hub behind the same name can finish.
func (s *site) start(w http.ResponseWriter, r *http.Request) {
	address, attempt, err := s.SignIn.Begin(r.Context(), s.redirectURL(r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	raw, err := json.Marshal(attempt)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	c := s.cookie(r, base64.RawURLEncoding.EncodeToString(raw))
	// Lax: the browser comes back from the provider's site, and has to bring it.
	c.Name, c.Path, c.MaxAge, c.SameSite = attemptCookie, callbackPath, int(attemptLife.Seconds()), http.SameSiteLaxMode
	http.SetCookie(w, c)
	http.Redirect(w, r, address, http.StatusFound)
}

// callback is where the provider sends the browser back.
func (s *site) callback(w http.ResponseWriter, r *http.Request) {
	gone := s.cookie(r, "")
	gone.Name, gone.Path, gone.MaxAge = attemptCookie, callbackPath, -1
	http.SetCookie(w, gone)
	attempt, err := attemptOf(r)
	if err == nil {
		err = s.finish(w, r, attempt)
	}
	if err != nil {
		s.failAs(w, r, client.StatusOfCredential(err), err)
		return
	}
	s.render(w, r, http.StatusOK, s.pages["login"], loginPage{})
}

func attemptOf(r *http.Request) (signin.Attempt, error) {
	var a signin.Attempt
	none := fleet.WithHint(fleet.Forbidden("no sign-in was begun in this browser, or it took too long"), "begin again")
	c, err := r.Cookie(attemptCookie)
	if err != nil {
		return a, none
	}
	raw, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || json.Unmarshal(raw, &a) != nil {
		return a, none
	}
	return a, nil
}

func (s *site) finish(w http.ResponseWriter, r *http.Request, a signin.Attempt) error {
	q := r.URL.Query()
	if why := q.Get("error"); why != "" {
		return fleet.WithHint(fleet.Forbidden("the identity provider refuses: %s", why), "begin again")
	}
	id, until, refresh, err := s.SignIn.Finish(r.Context(), s.redirectURL(r), a, q.Get("state"), q.Get("code"))
	if err != nil {
		return err
	}
	ticket, end, err := s.Sessions.begin(&session{id: id, fresh: until, refresh: refresh})
	if err != nil {
		return err
	}
	c := s.cookie(r, ticket)
	c.MaxAge = int(end.Sub(s.Now()).Seconds())
	http.SetCookie(w, c)
	return nil
}

// redirectURL is where the provider sends browsers back: it has to be
// registered there.
func (s *site) redirectURL(r *http.Request) string {
	if s.URL != "" {
		return s.base + callbackPath
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host + callbackPath
}

// holder tells whose a session is now. What a provider said holds for a while;
// then it is asked again, so that somebody who left has no session.
func (s *site) holder(ctx context.Context, se *session) (fleet.Identity, error) {
	se.mu.Lock() // one of several requests at once asks
	defer se.mu.Unlock()
	if se.fresh.IsZero() || s.Now().Before(se.fresh) {
		return se.id, nil
	}
	ended := fleet.Forbidden("your sign-in has ended")
	if se.refresh == "" || s.SignIn == nil {
		return fleet.Identity{}, ended
	}
	// Not cut off when this browser goes: the provider may take a refresh token once.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTime)
	defer cancel()
	id, until, next, err := s.SignIn.Renew(ctx, se.refresh)
	switch {
	case errors.Is(err, fleet.ErrForbidden):
		se.refresh = ""
		return fleet.Identity{}, ended
	case err != nil:
		return fleet.Identity{}, err
	}
	se.id, se.fresh, se.refresh = id, until, next
	return id, nil
}
