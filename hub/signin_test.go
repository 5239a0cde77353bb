package hub_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin/signintest"
)

// signedHub is a hub that people sign in to: ada's group may see.
func signedHub(t *testing.T) (*signintest.Provider, hub.Addresses) {
	t.Helper()
	idp := signintest.Start(t, map[string][]string{"ada": {"team-a"}, "bob": nil})
	dir := t.TempDir()
	secret, access := filepath.Join(dir, "secret"), filepath.Join(dir, "access.yaml")
	for path, text := range map[string]string{secret: signintest.WebSecret + "\n", access: "bindings: [{roles: [viewer], groups: [team-a]}]"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, stop := run(t, hub.Config{DataDir: filepath.Join(dir, "hub"), AccessFile: access, OIDC: hub.OIDC{
		Issuer: idp.Issuer, ClientID: signintest.WebClient, ClientSecretFile: secret, CLIClientID: signintest.CLIClient,
	}})
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	redirect := a.URL + "/login/callback"
	idp.Redirect.Store(&redirect)
	return idp, a
}

func TestSigningInToThePage(t *testing.T) {
	idp, a := signedHub(t)
	browser := signintest.Browser(t)
	page := func(b *http.Client, path string) (int, string) {
		t.Helper()
		res, err := b.Get(a.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	if code, body := page(browser, "/"); code != 401 || !strings.Contains(body, `href="/login/start"`) {
		t.Errorf("a stranger: %d %s", code, body)
	}
	res, body, err := idp.SignIn(browser, a.URL+"/login/start", "ada")
	if err != nil || res.StatusCode != 200 || !strings.Contains(body, "Logged in") {
		t.Fatalf("%v, %v %s", err, res, body)
	}
	for _, c := range res.Cookies() {
		if c.Name == "capstan_session" && (!c.HttpOnly || c.SameSite != http.SameSiteStrictMode) {
			t.Errorf("cookie %s", c)
		}
	}
	if code, body := page(browser, "/"); code != 200 || !strings.Contains(body, "ada@example.com") {
		t.Errorf("ada: %d %s", code, body)
	}
	bob := signintest.Browser(t)
	if _, _, err := idp.SignIn(bob, a.URL+"/login/start", "bob"); err != nil {
		t.Fatal(err)
	}
	if code, body := page(bob, "/"); code != 403 || !strings.Contains(body, "no role") {
		t.Errorf("bob: %d %s", code, body)
	}
	for name, path := range map[string]string{
		"no attempt":      "/login/callback?state=x&code=y",
		"refused":         "/login/callback?error=access_denied",
		"somebody else's": res.Request.URL.RequestURI(), // the address bob's browser was led to
	} {
		stranger := signintest.Browser(t)
		if code, _ := page(stranger, path); code != 401 {
			t.Errorf("%s: %d", name, code)
		}
		if code, _ := page(stranger, "/"); code != 401 {
			t.Errorf("%s: afterwards %d", name, code)
		}
	}
	// A cookie that is made up.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/login/callback?state=s&code=c", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: "capstan_signin", Value: base64.RawURLEncoding.EncodeToString([]byte(`{"state":"s","nonce":"n","verifier":"` + strings.Repeat("v", 43) + `"}`))})
	res, err = signintest.Browser(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("a made-up attempt: %s", res.Status)
	}
}

func TestAnIDTokenIsABearerToken(t *testing.T) {
	idp, a := signedHub(t)
	claims := func(alter func(map[string]any)) string {
		c := map[string]any{
			"iss": idp.Issuer, "sub": "ada", "aud": signintest.CLIClient, "exp": time.Now().Add(time.Hour).Unix(), "email": "ada@example.com", "groups": []string{"team-a"},
		}
		alter(c)
		return idp.Forge(t, c)
	}
	ask := func(token string) (fleet.Self, error) {
		c, err := client.New(client.Config{URL: a.URL, Token: token, HTTP: http.DefaultClient})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Clusters(t.Context(), fleet.ClusterFilter{}); err != nil {
			return fleet.Self{}, err
		}
		return c.Whoami(t.Context())
	}
	self, err := ask(claims(func(map[string]any) {}))
	if err != nil || self.Name != "ada@example.com" || self.Via != fleet.ViaOIDC || len(self.Grants) != 1 {
		t.Errorf("%+v, %v", self, err)
	}
	for name, token := range map[string]string{
		"another audience":       claims(func(c map[string]any) { c["aud"] = "grafana" }),
		"another issuer":         claims(func(c map[string]any) { c["iss"] = "https://elsewhere" }),
		"expired":                claims(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Second).Unix() }),
		"no name":                claims(func(c map[string]any) { delete(c, "email") }),
		"a name with a newline":  claims(func(c map[string]any) { c["email"] = "ada\n@example.com" }),
		"an address not checked": claims(func(c map[string]any) { c["email_verified"] = false }),
		"another group":          claims(func(c map[string]any) { c["groups"] = []string{"team-b"} }),
		"nothing":                "..",
	} {
		if _, err := ask(token); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProvidersThatMakeNoSense(t *testing.T) {
	for _, o := range []hub.OIDC{
		{ClientID: "x"}, {Issuer: "id.example.com", ClientID: "x"}, {Issuer: "https://id.example.com"},
	} {
		if err := o.Validate(); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
