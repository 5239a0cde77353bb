package hub

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin"
)

var (
	_ api.People   = (*people.People)(nil)
	_ web.People   = (*people.People)(nil)
	_ web.SignIn   = (*people.OIDC)(nil)
	_ people.Fleet = (*desk.Desk)(nil)
)

// OIDC names an identity provider, and the hub's clients there. No issuer: there
// is none, and nothing else may be set.
type OIDC struct {
	Issuer           string
	ClientID         string // of the page
	ClientSecretFile string // empty: a public client
	CLIClientID      string // of the CLI, a public client; empty: ClientID
	UsernameClaim    string // empty: email
	GroupsClaim      string // empty: groups
	Scopes           []string
}

// Validate checks what can be known before the start. The error is ErrInvalid.
func (o OIDC) Validate() error {
	if o.Issuer == "" {
		if o.ClientID != "" || o.ClientSecretFile != "" || o.CLIClientID != "" {
			return fleet.WithHint(fleet.Invalid("a client of an identity provider makes no sense without one"), "name it with --oidc-issuer")
		}
		return nil
	}
	_, err := signin.New(signin.Config{Issuer: o.Issuer, ClientID: o.ClientID})
	return err
}

// open makes the side that knows people, and what programs are told. Both are
// nil where there is no provider.
func (o OIDC) open(d *desk.Desk) (*people.OIDC, *client.SignIn, error) {
	if o.Issuer == "" {
		return nil, nil, nil
	}
	secret := ""
	if o.ClientSecretFile != "" {
		raw, err := os.ReadFile(o.ClientSecretFile)
		if err != nil {
			return nil, nil, fmt.Errorf("OIDC client secret: %w", err)
		}
		secret = strings.TrimSpace(string(raw))
	}
	cli := cmp.Or(o.CLIClientID, o.ClientID)
	scopes := o.Scopes
	if len(scopes) == 0 {
		scopes = []string{"openid", "profile", "email", "offline_access"}
	}
	provider, err := signin.New(signin.Config{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: secret, Audiences: []string{cli}, Scopes: scopes,
	})
	if err != nil {
		return nil, nil, err
	}
	known := people.NewOIDC(people.OIDCConfig{Provider: provider, UsernameClaim: o.UsernameClaim, GroupsClaim: o.GroupsClaim, Note: d.Note})
	return known, &client.SignIn{Issuer: o.Issuer, ClientID: cli, Scopes: scopes}, nil
}

// openPeople says who is let in, and makes an administrator's token where
// nobody has named any.
func openPeople(cfg Config, service people.Bucket, d *desk.Desk, provider people.Provider) (who *people.People, adminToken string, err error) {
	file := cfg.TokenFile
	if file == "" {
		if adminToken, err = people.EnsureAdminToken(cfg.DataDir); err != nil {
			return nil, "", err
		}
		file = people.TokensFile(cfg.DataDir)
	}
	tokens, err := people.OpenTokens(file)
	if err != nil {
		return nil, "", err
	}
	who, err = people.Open(people.Config{Tokens: tokens, AccessFile: cfg.AccessFile, Service: service, Provider: provider, Note: d.Note})
	return who, adminToken, err
}

// validateProxies checks the addresses whose word on where a request came from
// is taken. The error is ErrInvalid.
func validateProxies(proxies []string) error {
	for _, p := range proxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			return fleet.WithHint(fleet.Invalid("trusted proxy %q is not a range of addresses", p), "write it like 10.0.0.0/8 or 192.0.2.7/32")
		}
	}
	return nil
}

// originOf notes on each request where it came from: the address that dialled,
// or what a trusted proxy says, who appends to X-Forwarded-For.
func originOf(proxies []string, next http.Handler) http.Handler {
	trusted := func(address string) bool {
		a, err := netip.ParseAddr(address)
		for _, p := range proxies {
			if prefix, bad := netip.ParsePrefix(p); err == nil && bad == nil && prefix.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			origin = r.RemoteAddr
		}
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0 && trusted(origin); i-- {
			hop := strings.TrimSpace(hops[i])
			if _, err := netip.ParseAddr(hop); err != nil {
				break
			}
			origin = hop
		}
		next.ServeHTTP(w, r.WithContext(fleet.WithOrigin(r.Context(), origin)))
	})
}
