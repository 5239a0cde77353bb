package people

import (
	"cmp"
	"context"
	"time"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin"
)

// OIDCConfig says how ID tokens are read.
type OIDCConfig struct {
	Provider      *signin.Provider
	UsernameClaim string // empty: email
	GroupsClaim   string // empty: groups
	// Note writes into the audit log that somebody signed in; nil: nobody does.
	Note func(ctx context.Context, e fleet.Event) error
}

// OIDC knows people by what an OpenID Connect provider says of them.
type OIDC struct{ cfg OIDCConfig }

var _ Provider = (*OIDC)(nil)

// NewOIDC makes one.
func NewOIDC(cfg OIDCConfig) *OIDC {
	cfg.UsernameClaim = cmp.Or(cfg.UsernameClaim, emailClaim)
	cfg.GroupsClaim = cmp.Or(cfg.GroupsClaim, "groups")
	return &OIDC{cfg}
}

const emailClaim = "email"

// Verify implements Provider.
func (o *OIDC) Verify(ctx context.Context, raw string) (fleet.Identity, time.Time, error) {
	claims, err := o.cfg.Provider.Verify(ctx, raw)
	if err != nil {
		return fleet.Identity{}, time.Time{}, err
	}
	id, err := o.identity(claims)
	return id, claims.Expires, err
}

const maxName = 256

func (o *OIDC) identity(c signin.Claims) (fleet.Identity, error) {
	name := c.Text(o.cfg.UsernameClaim)
	if name == "" || len(name) > maxName || !printable(name) {
		return fleet.Identity{}, fleet.WithHint(fleet.Forbidden("the ID token has no claim %q that is a name", o.cfg.UsernameClaim),
			"have the provider put it into ID tokens, or name another claim with --oidc-username-claim")
	}
	if o.cfg.UsernameClaim == emailClaim && c.Denied("email_verified") {
		return fleet.Identity{}, fleet.Forbidden("the provider has not verified the address %s", name)
	}
	return fleet.Identity{Via: fleet.ViaOIDC, Name: name, Groups: c.List(o.cfg.GroupsClaim)}, nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// Begin sends a browser to the provider; it comes back to redirect.
func (o *OIDC) Begin(ctx context.Context, redirect string) (string, signin.Attempt, error) {
	return o.cfg.Provider.Begin(ctx, redirect)
}

// Finish tells who came back, how long that holds, and with what it can be
// asked for again.
func (o *OIDC) Finish(ctx context.Context, redirect string, a signin.Attempt, state, code string) (fleet.Identity, time.Time, string, error) {
	tokens, err := o.cfg.Provider.Finish(ctx, redirect, a, state, code)
	if err != nil {
		return fleet.Identity{}, time.Time{}, "", err
	}
	id, err := o.identity(tokens.Claims)
	if err == nil && o.cfg.Note != nil {
		err = o.cfg.Note(fleet.WithIdentity(ctx, id), fleet.Event{Action: "sign-in"})
	}
	return id, tokens.Claims.Expires, tokens.Refresh, err
}

// Renew asks the provider again. ErrForbidden: it gives no more.
func (o *OIDC) Renew(ctx context.Context, refresh string) (fleet.Identity, time.Time, string, error) {
	tokens, err := o.cfg.Provider.Refresh(ctx, refresh)
	if err != nil {
		return fleet.Identity{}, time.Time{}, "", err
	}
	id, err := o.identity(tokens.Claims)
	return id, tokens.Claims.Expires, tokens.Refresh, err
}
