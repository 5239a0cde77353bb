package signin_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin"
	"github.com/capstan-gitops/capstan/pkg/signin/signintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var people = map[string][]string{"ada": {"team-a", "everybody"}, "bob": nil}

func provider(t *testing.T) *signintest.Provider {
	t.Helper()
	p := signintest.Start(t, people)
	redirect := "http://127.0.0.1:1/login/callback"
	p.Redirect.Store(&redirect)
	return p
}

func open(t *testing.T, c signin.Config) *signin.Provider {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c.HTTP = &http.Client{Transport: tr}
	p, err := signin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func isAda(t *testing.T, c signin.Claims) {
	t.Helper()
	if c.Text("email") != "ada@example.com" || !slices.Equal(c.List("groups"), people["ada"]) || !c.Expires.After(time.Now()) {
		t.Errorf("claims: %+v", c)
	}
}

func TestCodeAndPKCEOverALoopback(t *testing.T) {
	idp := provider(t)
	p := open(t, idp.Client(signintest.CLIClient, ""))
	browser := signintest.Browser(t)
	tokens, err := p.Loopback(t.Context(), func(address string) error {
		if !strings.Contains(address, "code_challenge_method=S256") || !strings.Contains(address, "nonce=") {
			t.Errorf("address %s", address)
		}
		_, body, err := idp.SignIn(browser, address, "ada")
		if !strings.Contains(body, "go back to the terminal") {
			t.Errorf("the browser shows %q", body)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	isAda(t, tokens.Claims)
	again, err := p.Verify(t.Context(), tokens.ID)
	if err != nil {
		t.Fatal(err)
	}
	isAda(t, again)
	if tokens.Refresh == "" {
		t.Fatal("there is no refresh token")
	}
	next, err := p.Refresh(t.Context(), tokens.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	isAda(t, next.Claims)
	if err := p.Revoke(t.Context(), next.Refresh); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Refresh(t.Context(), next.Refresh); !errors.Is(err, fleet.ErrForbidden) || fleet.Hint(err) == "" {
		t.Errorf("a refresh token that was taken back: %v", err)
	}
}

func TestTheDeviceFlow(t *testing.T) {
	idp := provider(t)
	p := open(t, idp.Client(signintest.CLIClient, ""))
	tokens, err := p.Device(t.Context(), func(c signin.DeviceCode) {
		if c.Address == "" || c.Direct == "" || !c.Expires.After(time.Now()) {
			t.Errorf("code: %+v", c)
		}
		if err := idp.ApproveDevice(t.Context(), c.Code, "ada"); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	isAda(t, tokens.Claims)
	_, err = p.Device(t.Context(), func(c signin.DeviceCode) {
		if err := idp.DenyDevice(t.Context(), c.Code); err != nil {
			t.Error(err)
		}
	})
	if !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("denied: %v", err)
	}
}

func TestAnswersThatAreNotForThisSignInAreRefused(t *testing.T) {
	idp := provider(t)
	p := open(t, idp.Client(signintest.WebClient, signintest.WebSecret))
	const redirect = "http://127.0.0.1:1/login/callback"
	begin := func() (signin.Attempt, string, string) {
		t.Helper()
		address, a, err := p.Begin(t.Context(), redirect)
		if err != nil {
			t.Fatal(err)
		}
		browser := signintest.Browser(t)
		browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if strings.HasPrefix(r.URL.String(), redirect) {
				return http.ErrUseLastResponse
			}
			return nil
		}
		res, _, err := idp.SignIn(browser, address, "ada")
		if err != nil {
			t.Fatal(err)
		}
		back, err := res.Location()
		if err != nil {
			t.Fatal(err)
		}
		return a, back.Query().Get("state"), back.Query().Get("code")
	}
	finish := func(a signin.Attempt, state, code string) error {
		_, err := p.Finish(t.Context(), redirect, a, state, code)
		return err
	}
	a, state, code := begin()
	if err := finish(a, state, code); err != nil {
		t.Fatal(err)
	}
	if err := finish(a, state, code); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("a code twice: %v", err)
	}
	for name, alter := range map[string]func(a *signin.Attempt, state, code *string){
		"another state":    func(_ *signin.Attempt, state, _ *string) { *state = "x" },
		"no attempt":       func(a *signin.Attempt, state, _ *string) { *a, *state = signin.Attempt{}, "" },
		"another nonce":    func(a *signin.Attempt, _, _ *string) { a.Nonce = "x" },
		"another verifier": func(a *signin.Attempt, _, _ *string) { a.Verifier = strings.Repeat("x", 43) },
		"another code":     func(_ *signin.Attempt, _, code *string) { *code = "x" },
	} {
		a, state, code := begin()
		alter(&a, &state, &code)
		if err := finish(a, state, code); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokensThatDoNotCountAreRefused(t *testing.T) {
	idp := provider(t)
	cfg := idp.Client(signintest.WebClient, "")
	cfg.Audiences = []string{signintest.CLIClient}
	p := open(t, cfg)
	good := func(alter func(map[string]any)) map[string]any {
		c := map[string]any{
			"iss": idp.Issuer, "sub": "ada", "aud": signintest.CLIClient, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "email": "ada@example.com",
		}
		alter(c)
		return c
	}
	if _, err := p.Verify(t.Context(), idp.Forge(t, good(func(map[string]any) {}))); err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	plain := idp.Forge(t, good(func(map[string]any) {}))
	body := strings.Split(plain, ".")
	for name, token := range map[string]string{
		"another issuer":      idp.Forge(t, good(func(c map[string]any) { c["iss"] = "https://elsewhere.example.com" })),
		"another audience":    idp.Forge(t, good(func(c map[string]any) { c["aud"] = "grafana" })),
		"no audience":         idp.Forge(t, good(func(c map[string]any) { delete(c, "aud") })),
		"expired":             idp.Forge(t, good(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() })),
		"no expiry":           idp.Forge(t, good(func(c map[string]any) { delete(c, "exp") })),
		"not valid yet":       idp.Forge(t, good(func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() })),
		"a stranger's key":    signintest.Signed(t, jose.SigningKey{Algorithm: jose.RS256, Key: stranger}, good(func(map[string]any) {})),
		"a shared secret":     signintest.Signed(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, good(func(map[string]any) {})),
		"no algorithm":        part(`{"alg":"none"}`) + "." + body[1] + ".",
		"none, and signed":    part(`{"alg":"none"}`) + "." + body[1] + "." + body[2],
		"another body":        body[0] + "." + part(`{"iss":"`+idp.Issuer+`","aud":"capstan-cli","sub":"root","exp":99999999999}`) + "." + body[2],
		"nothing":             "..",
		"what is no token":    "a.b.c",
		"a signature cut off": body[0] + "." + body[1] + ".",
	} {
		if _, err := p.Verify(t.Context(), token); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProviderThatIsAway(t *testing.T) {
	p := open(t, signin.Config{Issuer: "http://127.0.0.1:1", ClientID: "x"})
	if _, err := p.Verify(t.Context(), "a.b.c"); !errors.Is(err, fleet.ErrUnavailable) || fleet.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if _, _, err := p.Begin(t.Context(), "http://hub/callback"); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestWaitingForABrowserEnds(t *testing.T) {
	idp := provider(t)
	p := open(t, idp.Client(signintest.CLIClient, ""))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.Loopback(ctx, func(string) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestIssuersThatMakeNoSense(t *testing.T) {
	for _, c := range []signin.Config{
		{Issuer: "", ClientID: "x"},
		{Issuer: "id.example.com", ClientID: "x"},
		{Issuer: "http://id.example.com", ClientID: "x"}, // in clear
		{Issuer: "https://a:b@id.example.com", ClientID: "x"},
		{Issuer: "https://id.example.com"},
	} {
		if _, err := signin.New(c); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
