// Package signin signs people in with an OpenID Connect provider: by
// authorisation code with PKCE, in a browser, or by the device flow, in a
// terminal. It sees no password: the provider does.
package signin

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Config names a provider, and the client that is registered there.
type Config struct {
	Issuer       string
	ClientID     string
	ClientSecret string   // empty: a public client
	Audiences    []string // other clients whose ID tokens count too
	Scopes       []string // openid is always among them
	HTTP         *http.Client
	Now          func() time.Time // nil: the real clock
}

// Provider is an OpenID Connect provider. It is asked who it is when it is
// first needed.
type Provider struct {
	cfg Config

	mu    sync.Mutex
	known *oidc.Provider
}

// algorithms are those by which an ID token may be signed: none by a secret
// that is shared, and not "none".
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// New makes a provider; it opens no connection. The error is ErrInvalid.
func New(cfg Config) (*Provider, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !isLoopback(u) {
		return nil, fleet.WithHint(fleet.Invalid("issuer %q is not valid", cfg.Issuer), "write it as https://id.example.com")
	}
	if cfg.ClientID == "" {
		return nil, fleet.Invalid("no client of the issuer %s is named", cfg.Issuer)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if !slices.Contains(cfg.Scopes, oidc.ScopeOpenID) {
		cfg.Scopes = append([]string{oidc.ScopeOpenID}, cfg.Scopes...)
	}
	return &Provider{cfg: cfg}, nil
}

func isLoopback(u *url.URL) bool {
	return u.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
}

// discover asks the provider for its endpoints, once.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known != nil {
		return p.known, nil
	}
	known, err := oidc.NewProvider(p.with(ctx), p.cfg.Issuer)
	if err != nil {
		return nil, fleet.WithHint(fleet.Unavailable("the identity provider %s: %w", p.cfg.Issuer, err), "is its address right, and is it up?")
	}
	p.known = known
	return known, nil
}

func (p *Provider) with(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.cfg.HTTP)
}

func (p *Provider) oauth(known *oidc.Provider, redirect string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: known.Endpoint(), RedirectURL: redirect, Scopes: p.cfg.Scopes,
	}
}

// Tokens are what somebody who signed in has.
type Tokens struct {
	ID      string // the bearer token for a hub
	Refresh string // for others of it; empty: there will be none
	Claims  Claims
}

// Claims are what an ID token says.
type Claims struct {
	Subject string
	Expires time.Time
	all     map[string]any
}

// Text is a claim that is a text, or "".
func (c Claims) Text(name string) string {
	s, _ := c.all[name].(string)
	return s
}

// Denied tells whether a claim is there, and false.
func (c Claims) Denied(name string) bool {
	switch v := c.all[name].(type) {
	case bool:
		return !v
	case string: // some providers write it so
		return v == "false"
	}
	return false
}

// List is a claim that is a list of texts, or one text.
func (c Claims) List(name string) []string {
	switch v := c.all[name].(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// Verify checks an ID token: its signature, issuer, audience and times.
// ErrForbidden: it is not one that counts. ErrUnavailable: the provider's keys
// can't be had.
func (p *Provider) Verify(ctx context.Context, raw string) (Claims, error) {
	token, err := p.verify(ctx, raw)
	if err != nil {
		return Claims{}, err
	}
	return claimsOf(token)
}

func (p *Provider) verify(ctx context.Context, raw string) (*oidc.IDToken, error) {
	known, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	v := known.VerifierContext(p.with(ctx), &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms, Now: p.cfg.Now})
	token, err := v.Verify(ctx, raw)
	if late, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return nil, fleet.WithHint(fleet.Forbidden("the sign-in ended at %s", late.Expiry.UTC().Format(time.RFC3339)), "sign in again: capstan login")
	}
	if _, net := errors.AsType[*url.Error](err); net || errors.Is(err, context.DeadlineExceeded) {
		return nil, fleet.Unavailable("the identity provider %s: its keys can't be had: %w", p.cfg.Issuer, err)
	}
	if err != nil {
		return nil, fleet.WithHint(fleet.Forbidden("the ID token is not one of %s: %w", p.cfg.Issuer, err), "sign in again: capstan login")
	}
	ours := append([]string{p.cfg.ClientID}, p.cfg.Audiences...)
	if !slices.ContainsFunc(token.Audience, func(a string) bool { return slices.Contains(ours, a) }) {
		return nil, fleet.Forbidden("the ID token is for %s, not for this hub", strings.Join(token.Audience, ", "))
	}
	return token, nil
}

func claimsOf(token *oidc.IDToken) (Claims, error) {
	c := Claims{Subject: token.Subject, Expires: token.Expiry}
	if err := token.Claims(&c.all); err != nil {
		return Claims{}, fleet.Forbidden("the ID token can't be read: %w", err)
	}
	return c, nil
}

// received takes the ID token out of a provider's answer. nonce: "" where none
// was sent.
func (p *Provider) received(ctx context.Context, answer *oauth2.Token, nonce string) (Tokens, error) {
	raw, _ := answer.Extra("id_token").(string)
	if raw == "" {
		return Tokens{}, fleet.Forbidden("the identity provider %s gave no ID token", p.cfg.Issuer)
	}
	token, err := p.verify(ctx, raw)
	if err != nil {
		return Tokens{}, err
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(token.Nonce)) != 1 {
		return Tokens{}, fleet.Forbidden("the ID token is of another sign-in: its nonce is not the one that was sent")
	}
	claims, err := claimsOf(token)
	return Tokens{ID: raw, Refresh: answer.RefreshToken, Claims: claims}, err
}

// Refresh gets another ID token. ErrForbidden: the provider gives no more.
func (p *Provider) Refresh(ctx context.Context, refresh string) (Tokens, error) {
	known, err := p.discover(ctx)
	if err != nil {
		return Tokens{}, err
	}
	answer, err := p.oauth(known, "").TokenSource(p.with(ctx), &oauth2.Token{RefreshToken: refresh}).Token()
	if err != nil {
		return Tokens{}, p.refused("sign in again", err)
	}
	out, err := p.received(ctx, answer, "")
	out.Refresh = cmp.Or(out.Refresh, refresh)
	return out, err
}

// refused tells a provider's no from one that can't be reached. What it says is
// told; what was sent to it is not.
func (p *Provider) refused(what string, err error) error {
	if no, ok := errors.AsType[*oauth2.RetrieveError](err); ok && no.Response != nil && no.Response.StatusCode < http.StatusInternalServerError {
		why := cmp.Or(no.ErrorDescription, no.ErrorCode, no.Response.Status)
		return fleet.WithHint(fleet.Forbidden("the identity provider %s refuses: %s", p.cfg.Issuer, why), what+": capstan login")
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fleet.Unavailable("the identity provider %s: %w", p.cfg.Issuer, err)
}

// Revoke makes a refresh token worthless, where the provider can do that.
func (p *Provider) Revoke(ctx context.Context, refresh string) error {
	known, err := p.discover(ctx)
	if err != nil {
		return err
	}
	var more struct {
		Revocation string `json:"revocation_endpoint"`
	}
	if err := known.Claims(&more); err != nil || more.Revocation == "" {
		return err
	}
	form := url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}, "client_id": {p.cfg.ClientID}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, more.Revocation, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := p.cfg.HTTP.Do(req)
	if err != nil {
		return fleet.Unavailable("the identity provider %s: %w", p.cfg.Issuer, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fleet.Unavailable("the identity provider %s answers %s to the revocation", p.cfg.Issuer, res.Status)
	}
	return nil
}
