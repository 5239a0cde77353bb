package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

// everybody is let in, whatever their token.
type everybody struct{ fleettest.People }

func (*everybody) Authenticate(context.Context, string) (fleet.Identity, error) {
	return identity("fuzz"), nil
}
func (*everybody) Issue(fleet.Identity) (string, error) { return "/login?code=x", nil }

// fuzzBody shows that no body makes the API fail, answer what is no problem, or
// hand a credential on.
func fuzzBody(t *testing.T, method, path, body string) {
	u, err := url.Parse(path)
	if err != nil || !strings.HasPrefix(u.Path, "/") || path != u.String() || u.Path == "/api/v1/watch" {
		return
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete:
	default:
		return
	}
	h, err := api.New(api.Config{
		Hub: fleettest.NewHub(fleettest.Sample()), People: &everybody{}, Logins: &everybody{},
		GitPushed: func(_ context.Context, repo string, _ ...string) error {
			if u, err := url.Parse(repo); err != nil || u.User != nil {
				t.Errorf("told of %q", repo)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	r.URL = u
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code == http.StatusTooManyRequests {
		return
	}
	if w.Code >= 500 {
		t.Errorf("%s %s %q: %d %s", method, path, body, w.Code, w.Body)
	}
	if w.Code >= 400 {
		var p client.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Detail == "" {
			t.Errorf("%s %s %q: %d %s", method, path, body, w.Code, w.Body)
		}
	}
}
