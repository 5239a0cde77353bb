package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

// ask sends one request and returns the answer with its body.
func (f *fixture) ask(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := newTransport(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func bearer(token string) string { return "Authorization: Bearer " + token }

const app = "/api/v1/clusters/prod/apps/default/guestbook"

// calls is one good request of every route.
var calls = []struct {
	method, path, body string
	status             int
}{
	{"GET", "/api/openapi.json", "", 200},
	{"GET", "/api/v1/signin", "", 200},
	{"GET", "/api/v1/clusters", "", 200},
	{"GET", "/api/v1/clusters?selector=env&name=dev&name=prod&limit=1&fields=cluster,labels.env", "", 200},
	{"GET", "/api/v1/apps", "", 200},
	{"GET", "/api/v1/apps?limit=1&fields=app,pending.plan", "", 200},
	{"GET", app + "/plan", "", 200},
	{"GET", "/api/v1/clusters/dev/apps/default/guestbook/history", "", 200},
	{"GET", "/api/v1/clusters/dev/apps/default/guestbook/tree?fields=object", "", 200},
	{"GET", "/api/v1/events", "", 200},
	{"GET", "/api/v1/changes?since=2026-03-14T09:26:53Z&cluster=dev", "", 200},
	{"GET", "/api/v1/whoami", "", 200},
	{"POST", "/api/v1/logins", "{}", 200},
	{"POST", "/api/v1/tokens", `{"name":"ci","roles":["viewer"],"ttl":"1h"}`, 200},
	{"GET", "/api/v1/tokens", "", 200},
	{"DELETE", "/api/v1/tokens/ci", "", 204},
	{"PATCH", "/api/v1/clusters/dev/labels", `{"set":{"env":"x"}}`, 200},
	{"PATCH", "/api/v1/labels", `{"clusters":["dev","staging"],"set":{"team":"x"},"remove":["env"]}`, 200},
	{"POST", "/api/v1/joins", `{"cluster":"edge","ttl":"1h"}`, 200},
	{"POST", app + "/reject", `{"plan":"plan-1"}`, 204},
	{"POST", "/api/v1/apps/default/guestbook/sync", `{"clusters":[]}`, 200},
	{"POST", "/api/v1/apps/default/guestbook/suspend", `{"clusters":["prod"],"why":"look"}`, 200},
	{"POST", "/api/v1/clusters/dev/apps/default/guestbook/rollback", `{"revision":"1111111"}`, 200},
	{"POST", "/api/v1/apps/default/guestbook/resume", `{"clusters":[],"only":"suspend"}`, 200},
	{"POST", "/api/v1/approvals", `{"statement":"e30=","signature":""}`, 400}, // reaches the hub, which refuses it
	{"POST", "/hooks/git", `{"repository":{"url":"https://git.example.com/fleet"}}`, 204},
	{"DELETE", "/api/v1/clusters/staging", "", 204},
}

func TestWhoIsKnownIsLetInAndNobodyElse(t *testing.T) {
	for token, known := range map[string]bool{viewerToken: true, "stranger": false, "": false} {
		f := serve(t, fleettest.NewHub(fleettest.Sample()))
		for _, c := range calls {
			res, body := f.ask(t, c.method, c.path, c.body, bearer(token))
			want := c.status
			if open := c.path == "/api/openapi.json" || c.path == "/api/v1/signin"; !known && !open {
				want = http.StatusUnauthorized
			}
			if res.StatusCode != want {
				t.Errorf("%s as %q: %s %s: %d, want %d: %s", c.method, token, c.path, c.body, res.StatusCode, want, body)
			}
			if want == http.StatusUnauthorized && res.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s does not say how to authenticate", c.method, c.path)
			}
		}
	}
}

func TestStrangersGetNoStream(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	for _, token := range []string{"", "stranger"} {
		if res, _ := f.ask(t, "GET", "/api/v1/watch", "", bearer(token)); res.StatusCode/100 != 4 {
			t.Errorf("token %q: %s", token, res.Status)
		}
	}
}

func TestListsHaveTheContractsForm(t *testing.T) {
	seed := fleettest.Sample()
	seed.Clusters = append(seed.Clusters, fleet.Cluster{Cluster: "bare"})
	f := serve(t, fleettest.NewHub(seed))
	_, body := f.ask(t, "GET", "/api/v1/apps?cluster=dev", "", bearer(viewerToken))
	var apps struct{ Items []map[string]any }
	if err := json.Unmarshal([]byte(body), &apps); err != nil || len(apps.Items) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	for _, key := range []string{"cluster", "namespace", "app", "revision", "digest", "pending", "sync", "health", "stale", "message"} {
		if _, ok := apps.Items[0][key]; !ok {
			t.Errorf("an app has no %q: %s", key, body)
		}
	}
	if apps.Items[0]["pending"] != nil {
		t.Errorf("nothing is pending: %s", body)
	}
	if _, body := f.ask(t, "GET", "/api/v1/apps?name=none", "", bearer(viewerToken)); strings.TrimSpace(body) != `{"items":[]}` {
		t.Errorf("no apps are %s", body)
	}
	if _, body := f.ask(t, "GET", "/api/v1/clusters?name=bare", "", bearer(viewerToken)); !strings.Contains(body, `"labels":{}`) {
		t.Errorf("no labels are not {}: %s", body)
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	f := serve(t, hub)
	for name, c := range map[string]struct {
		method, path, body string
		header             string
		status             int
		says               string
	}{
		"an unknown field":      {"PATCH", "/api/v1/clusters/dev/labels", `{"add":{"a":"b"}}`, "", 400, `unknown field "add"`},
		"no JSON":               {"POST", "/api/v1/joins", `cluster: edge`, "", 400, "can't be read"},
		"two values":            {"POST", "/api/v1/joins", `{"cluster":"edge","ttl":"1h"}{}`, "", 400, "more than one"},
		"another type of body":  {"POST", "/api/v1/joins", `{}`, "Content-Type: text/plain", 400, "application/json"},
		"no body":               {"POST", app + "/reject", ``, "Content-Type: application/json", 400, "can't be read"},
		"a body too large":      {"POST", "/api/v1/joins", `{"cluster":"` + strings.Repeat("a", 2<<20) + `"}`, "", 400, "larger than"},
		"a ttl that is none":    {"POST", "/api/v1/joins", `{"cluster":"edge","ttl":"soon"}`, "", 400, "not a duration"},
		"a limit that is none":  {"GET", "/api/v1/apps?limit=0", "", "", 400, "limit"},
		"a limit of letters":    {"GET", "/api/v1/events?limit=x", "", "", 400, "limit"},
		"a page that is none":   {"GET", "/api/v1/apps?continue=%25", "", "", 400, "continue"},
		"a page of events":      {"GET", "/api/v1/events?continue=-1", "", "", 400, "continue"},
		"a time that is none":   {"GET", "/api/v1/events?since=yesterday", "", "", 400, "not a time"},
		"times the wrong way":   {"GET", "/api/v1/changes?since=2026-03-14T09:26:53Z&until=2026-03-13T09:26:53Z", "", "", 400, "not before"},
		"a boolean that's none": {"GET", "/api/v1/apps?pending=yes", "", "", 400, "neither true nor false"},
		"a field nobody has":    {"GET", "/api/v1/apps?fields=app,colour", "", "", 400, `field "colour" is not known`},
		"a field below text":    {"GET", "/api/v1/apps?fields=app.name", "", "", 400, "not known"},
		"an empty field":        {"GET", "/api/v1/apps?fields=app,", "", "", 400, "not known"},
		"a parameter twice":     {"GET", "/api/v1/apps?name=a&name=b", "", "", 400, "given twice"},
		"a revision":            {"GET", "/api/v1/apps?revision=main", "", "", 400, "not a commit"},
		"a selector":            {"GET", "/api/v1/clusters?selector=a%20in", "", "", 400, "selector"},
		"a query":               {"GET", "/api/v1/clusters?a=%zz", "", "", 400, "query"},
		"a token's name":        {"DELETE", "/api/v1/tokens/a.b", "", "", 404, "a.b"},
		"an unknown parameter":  {"GET", "/api/v1/apps?slector=env=prod", "", "", 400, `"slector" is not known`},
		"a name that is none":   {"DELETE", "/api/v1/clusters/a.b", "", "", 400, "not valid"},
		"another method":        {"PUT", "/api/v1/clusters", "", "", 405, "only GET"},
		"a path nobody has":     {"GET", "/api/v1/fleets", "", "", 404, "/api/v1/fleets"},
		"a notice of no repo":   {"POST", "/hooks/git", `{"ref":"refs/heads/main"}`, "", 400, "no repository"},
		"a notice that is none": {"POST", "/hooks/git", `[`, "", 400, "can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			header := []string{bearer(adminToken)}
			if c.header != "" {
				header = append(header, c.header)
			}
			res, body := f.ask(t, c.method, c.path, c.body, header...)
			var p client.Problem
			err := json.Unmarshal([]byte(body), &p)
			if err != nil || res.StatusCode != c.status || p.Status != c.status || p.Title == "" || !strings.Contains(p.Detail, c.says) {
				t.Errorf("%s %s, want %d and %q", res.Status, body, c.status, c.says)
			}
			if kind := res.Header.Get("Content-Type"); kind != "application/problem+json" {
				t.Errorf("the problem is of type %q", kind)
			}
		})
	}
	if calls := hub.Calls(); len(calls) != 0 || len(f.pushed) != 0 {
		t.Errorf("something was done all the same: %v %v", calls, f.pushed)
	}
}

func TestWhatIsDoneIsDoneInTheTokensName(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	f := serve(t, hub)
	if _, err := f.client(t, adminToken).Sync(t.Context(), fleettest.Guestbook, nil); err != nil {
		t.Fatal(err)
	}
	want := []fleettest.Call{{Method: "Sync", Actor: "jane@example.com", Detail: "default/guestbook [dev prod]"}}
	if got := hub.Calls(); !slices.Equal(got, want) {
		t.Errorf("calls: %v, want %v", got, want)
	}
}

func TestApprovalsArriveByteForByte(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	f := serve(t, hub)
	statement := `{"action":"apply","app":"default/guestbook","approver":"jane","comment":"<a> & ` + "\u2028" + `","expires":"2026-03-14T10:26:53Z",` +
		`"notBefore":"2026-03-14T09:26:53Z","targets":[{"cluster":"prod","clusterUID":"u","from":"","plan":"plan-1","to":""}]}`
	signed := fleet.SignedApproval{Statement: []byte(statement), Signature: "-----BEGIN<&>-----\n"}
	if err := f.client(t, adminToken).Approve(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	if got := hub.Calls()[0].Detail; got != statement+"\n"+signed.Signature {
		t.Errorf("arrived: %q", got)
	}
}

func TestWhatIsTheHubsOwnBusinessIsNotTold(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	f := serve(t, hub)
	hub.Fail(errors.New("dial nats://user:secret@10.0.0.1"))
	res, body := f.ask(t, "GET", "/api/v1/clusters", "", bearer(viewerToken))
	if res.StatusCode != 500 || strings.Contains(body, "secret") || !strings.Contains(body, "the hub's log") {
		t.Errorf("%s %s", res.Status, body)
	}
}

func TestPushesAreToldToAgents(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	for _, c := range []struct{ header, body, want string }{
		{bearer(hookToken), `{"ref":"refs/heads/main","repository":{"url":"https://api.example.com/x","clone_url":"https://git.example.com/fleet.git"},"pusher":{}}`, "https://git.example.com/fleet.git refs/heads/main"},
		{"X-Gitlab-Token: " + hookToken, `{"repository":{"git_http_url":"https://git.example.com/lab.git"}}`, "https://git.example.com/lab.git"},
		{bearer(hookToken), `{"repository":{"url":"https://me:password@git.example.com/fleet.git"}}`, "https://git.example.com/fleet.git"},
		{bearer(adminToken), `{"repository":{"url":"http://127.0.0.1:8080/fleet"}}`, "http://127.0.0.1:8080/fleet"},
	} {
		f.pushed = nil
		res, body := f.ask(t, "POST", "/hooks/git", c.body, c.header)
		if res.StatusCode != http.StatusNoContent || strings.Join(f.pushed, " ") != c.want {
			t.Errorf("%s: %s %s; told %v, want %s", c.body, res.Status, body, f.pushed, c.want)
		}
	}
	if res, _ := f.ask(t, "GET", "/api/v1/apps", "", "X-Gitlab-Token: "+adminToken); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a hook's header lets into the API: %s", res.Status)
	}
}

func TestLoginsAreMadeForTheOneWhoAsks(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	link, err := f.client(t, viewerToken).Login(t.Context())
	if err != nil || link != f.url+"/login?code=abc" {
		t.Errorf("link %q, %v", link, err)
	}
	if want := []string{"token vic"}; !slices.Equal(f.logins, want) {
		t.Errorf("logins: %v, want %v", f.logins, want)
	}
}

func TestAnswersAreNothingToABrowser(t *testing.T) {
	f := serve(t, fleettest.NewHub(fleettest.Sample()))
	for _, token := range []string{viewerToken, ""} {
		res, _ := f.ask(t, "GET", "/api/v1/apps", "", bearer(token), "Origin: https://elsewhere.example.com")
		h := res.Header
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("headers: %v", h)
		}
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := api.New(api.Config{Hub: fleettest.NewHub(fleettest.Seed{})}); err == nil {
		t.Error("an API without tokens is made")
	}
}

func FuzzBodies(f *testing.F) {
	f.Add("PATCH", "/api/v1/clusters/dev/labels", `{"set":{"env":"x"},"remove":["a"]}`)
	f.Add("PATCH", "/api/v1/labels", `{"clusters":["dev"],"set":{"env":"x"},"remove":["a"]}`)
	f.Add("POST", "/api/v1/joins", `{"cluster":"edge","ttl":"1h"}`)
	f.Add("POST", "/api/v1/approvals", `{"statement":"e30=","signature":"x"}`)
	f.Add("POST", "/api/v1/apps/default/guestbook/sync", `{"clusters":["dev"]}`)
	f.Add("POST", "/hooks/git", `{"repository":{"clone_url":"https://a:b@c/d"}}`)
	f.Add("POST", "/api/v1/tokens", `{"name":"ci","roles":["viewer"],"clusters":"env=dev","apps":["a/*"],"ttl":"1h"}`)
	f.Add("GET", "/api/v1/apps?selector=a%20in%20(b)&limit=1&continue=YQ&fields=pending.plan,labels.x&revision=1234567&image=*", "")
	f.Add("GET", "/api/v1/events?since=2026-03-14T09:26:53Z&until=2026-03-15T09:26:53Z&continue=1&limit=7&fields=after", "")
	f.Fuzz(fuzzBody)
}
