// Package signintest runs an OpenID Connect provider for tests: zitadel's, with
// people in memory who sign in by their name.
package signintest

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/capstan-gitops/capstan/pkg/signin"
)

// The clients that are registered.
const (
	WebClient = "capstan-web" // with WebSecret
	WebSecret = "web-secret"
	CLIClient = "capstan-cli" // public
)

// Scopes are what a hub asks for.
var Scopes = []string{"openid", "profile", "email", "offline_access"}

// Provider is a running one.
type Provider struct {
	Issuer string
	// Life is how long the ID tokens live that are made from now on, in nanoseconds.
	Life atomic.Int64
	// Redirect is where the web client's browsers come back to.
	Redirect atomic.Pointer[string]
	store    *store
}

// Start runs a provider until the test ends. People are their groups by name; a
// person's address is name@example.com.
func Start(t testing.TB, people map[string][]string) *Provider {
	t.Helper()
	var handler http.Handler
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	server.Start()
	t.Cleanup(server.Close)
	p := &Provider{Issuer: server.URL}
	p.Life.Store(int64(time.Hour))
	users := users{}
	for name := range people {
		users[name] = &storage.User{ID: name, Username: name, Password: "x", Email: name + "@example.com", EmailVerified: true}
	}
	p.store = &store{
		Storage: storage.NewStorageWithClients(users, map[string]*storage.Client{
			WebClient: storage.WebClient(WebClient, WebSecret),
			CLIClient: storage.NativeClient(CLIClient, "http://127.0.0.1/callback"),
		}),
		groups: people, of: p,
	}
	provider, err := op.NewProvider(&op.Config{
		CryptoKey: sha256.Sum256([]byte("test")), CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true,
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime: 5 * time.Minute, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20,
		},
	}, p.store, op.StaticIssuer(p.Issuer), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	back := op.AuthCallbackURL(provider)
	issuer := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	mux := http.NewServeMux()
	mux.Handle("POST /login/username", issuer.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.FormValue("id")
		if err := p.store.CheckUsernamePassword(r.FormValue("username"), "x", id); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.Redirect(w, r, back(r.Context(), id), http.StatusFound)
	}))
	mux.HandleFunc("GET /login/username", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "Who are you?") })
	mux.Handle("/", provider)
	handler = mux
	return p
}

// Browser is a browser that keeps cookies.
func Browser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: tr}
}

// SignIn follows an address to the provider, signs in as somebody there, and
// returns the page the browser ends at, with its body read.
func (p *Provider) SignIn(browser *http.Client, address, name string) (*http.Response, string, error) {
	res, err := get(browser, address)
	if err != nil {
		return nil, "", err
	}
	form := url.Values{"id": {res.Request.URL.Query().Get("authRequestID")}, "username": {name}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.Issuer+"/login/username", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if res, err = browser.Do(req); err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func get(browser *http.Client, address string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := browser.Do(req)
	if err != nil {
		return nil, err
	}
	return res, res.Body.Close()
}

// ApproveDevice is what somebody does who types a device's code in.
func (p *Provider) ApproveDevice(ctx context.Context, code, name string) error {
	return p.store.CompleteDeviceAuthorization(ctx, code, name)
}

// DenyDevice is what somebody does who did not ask.
func (p *Provider) DenyDevice(ctx context.Context, code string) error {
	return p.store.DenyDeviceAuthorization(ctx, code)
}

// Forge makes a token with any claims, signed by the provider's own key.
func (p *Provider) Forge(t testing.TB, claims map[string]any) string {
	t.Helper()
	key, err := p.store.SigningKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return Signed(t, jose.SigningKey{Algorithm: key.SignatureAlgorithm(), Key: jose.JSONWebKey{Key: key.Key(), KeyID: key.ID()}}, claims)
}

// Signed makes a token signed by a key.
func Signed(t testing.TB, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Client is the configuration of a client of the provider.
func (p *Provider) Client(id, secret string) signin.Config {
	return signin.Config{Issuer: p.Issuer, ClientID: id, ClientSecret: secret, Scopes: Scopes}
}

type users map[string]*storage.User

func (u users) GetUserByID(id string) *storage.User         { return u[id] }
func (u users) GetUserByUsername(name string) *storage.User { return u[name] }
func (u users) ExampleClientID() string                     { return storage.ServiceUserID }

// store adds groups to what ID tokens say.
type store struct {
	*storage.Storage
	groups map[string][]string
	of     *Provider
}

// SetUserinfoFromRequest implements op.CanSetUserinfoFromRequest.
func (s *store) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	info.AppendClaims("groups", s.groups[r.GetSubject()])
	return s.Storage.SetUserinfoFromRequest(ctx, info, r, scopes)
}

// GetClientByClientID implements op.Storage.
func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return &registered{Client: c, of: s.of}, nil
}

// registered is a client that may use every flow and gets all claims.
type registered struct {
	op.Client
	of *Provider
}

func (c *registered) RedirectURIs() []string {
	if r := c.of.Redirect.Load(); r != nil && c.GetID() == WebClient {
		return []string{*r}
	}
	return c.Client.RedirectURIs()
}

func (c *registered) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c *registered) IDTokenLifetime() time.Duration       { return time.Duration(c.of.Life.Load()) }

func (c *registered) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
}
