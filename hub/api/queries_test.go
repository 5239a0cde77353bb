package api_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

func TestAnAnswerThatIsTooLongSaysSo(t *testing.T) {
	q := api.NewQueries(fleettest.NewHub(fleettest.Sample()), &everybody{}, 300, nil)
	ctx := fleet.WithIdentity(t.Context(), identity("ops"))
	if body, status := q.Get(ctx, "apps", nil, nil); status != http.StatusBadRequest || !strings.Contains(string(body), "limit") {
		t.Errorf("%d %s", status, body)
	}
	if body, status := q.Get(ctx, "apps", []byte(`{"limit":1,"fields":"app"}`), nil); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if body, status := q.Get(ctx, "events/x", nil, nil); status != http.StatusNotFound {
		t.Errorf("%d %s", status, body)
	}
}

// No parameters make the API fail, or answer what is no JSON.
func FuzzQueryParameters(f *testing.F) {
	for _, s := range []string{"", "{}", `{"selector":"env=prod"}`, `{"cluster":["a","b"],"limit":2}`, `{"pending":true}`, `{"a":null}`, `{"a":[[]]}`, "[]", `{"selector":" "}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		q := api.NewQueries(fleettest.NewHub(fleettest.Sample()), &everybody{}, 1<<20, nil)
		body, status := q.Get(fleet.WithIdentity(t.Context(), identity("fuzz")), "apps", params, url.Values{"drifted": {"false"}})
		if status >= http.StatusInternalServerError || !json.Valid(body) {
			t.Errorf("%q: %d %s", params, status, body)
		}
	})
}
