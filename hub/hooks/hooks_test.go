package hooks_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/hooks"
	"github.com/capstan-gitops/capstan/pkg/client"
)

const key = "correct-horse-battery"

// forge calls a hub's hooks.
type forge struct {
	handler  http.Handler
	file     string
	pushed   []string
	refs     []string // that the last call told of
	fail     error
	outcomes []hooks.Outcome
}

func newForge(t testing.TB, lines ...string) *forge {
	t.Helper()
	f := &forge{file: filepath.Join(t.TempDir(), "secrets")}
	f.write(t, lines...)
	secrets, err := hooks.OpenSecrets(f.file)
	if err != nil {
		t.Fatal(err)
	}
	f.handler, err = hooks.New(hooks.Config{
		Secrets: secrets,
		Pushed: func(_ context.Context, repo string, refs ...string) error {
			if f.refs = refs; f.fail == nil {
				f.pushed = append(f.pushed, repo)
			}
			return f.fail
		},
		Observe: func(_ string, o hooks.Outcome) { f.outcomes = append(f.outcomes, o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *forge) write(t testing.TB, lines ...string) {
	t.Helper()
	if err := os.WriteFile(f.file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func sign(secret, body string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

func payload(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (f *forge) call(provider, body string, headers map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, hooks.Prefix+provider, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	for k, v := range headers {
		if k == "user" {
			r.SetBasicAuth(v, key)
			continue
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// proved adds to headers what the provider proves with.
func proved(provider, secret, body string, headers map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, headers)
	switch provider {
	case "github":
		out["X-Hub-Signature-256"] = "sha256=" + sign(secret, body)
	case "bitbucket":
		out["X-Hub-Signature"] = "sha256=" + sign(secret, body)
	case "gitea":
		out["X-Gitea-Signature"] = sign(secret, body)
	case "gitlab":
		out["X-Gitlab-Token"] = secret
	case "azure":
		out["user"] = "capstan"
	}
	return out
}

var calls = []struct {
	provider, payload string
	headers           map[string]string
	status            int
	outcome           hooks.Outcome
	pushed            []string
	ref               string
}{
	{"github", "github_push", map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "d1"}, 200, hooks.Told, []string{"https://github.com/acme/fleet.git"}, "refs/heads/main"},
	{"github", "github_merge", map[string]string{"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": "d1"}, 200, hooks.Told, []string{"https://github.com/acme/fleet.git"}, "refs/heads/main"},
	{"github", "github_ping", map[string]string{"X-GitHub-Event": "ping", "X-GitHub-Delivery": "d1"}, 200, hooks.Answered, nil, ""},
	{"github", "github_issues", map[string]string{"X-GitHub-Event": "issues", "X-GitHub-Delivery": "d1"}, 202, hooks.Ignored, nil, ""},
	{"gitlab", "gitlab_push", map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Event-UUID": "d1"}, 200, hooks.Told, []string{"https://gitlab.example.com/platform/fleet.git"}, "refs/heads/main"},
	{"gitlab", "gitlab_tag", map[string]string{"X-Gitlab-Event": "Tag Push Hook"}, 200, hooks.Told, []string{"https://gitlab.example.com/platform/fleet.git", "git@ssh.example.com:platform/fleet.git"}, "refs/tags/v1.0.0"},
	{"gitlab", "gitlab_merge", map[string]string{"X-Gitlab-Event": "Merge Request Hook"}, 200, hooks.Told, []string{"https://gitlab.example.com/platform/fleet.git"}, "refs/heads/main"},
	{"gitlab", "gitlab_opened", map[string]string{"X-Gitlab-Event": "Merge Request Hook"}, 202, hooks.Ignored, nil, ""},
	{"gitlab", "gitlab_system", map[string]string{"X-Gitlab-Event": "System Hook"}, 200, hooks.Told, []string{"https://gitlab.example.com/platform/fleet.git"}, ""},
	{"gitea", "gitea_push", map[string]string{"X-Gitea-Event": "push", "X-Gitea-Delivery": "d1"}, 200, hooks.Told, []string{"https://git.example.com/platform/fleet.git"}, "refs/heads/main"},
	{"bitbucket", "bitbucket_cloud_push", map[string]string{"X-Event-Key": "repo:push", "X-Request-UUID": "d1"}, 200, hooks.Told, []string{"https://bitbucket.org/acme/fleet"}, "refs/heads/main,refs/tags/v0.9"},
	{"bitbucket", "bitbucket_cloud_merge", map[string]string{"X-Event-Key": "pullrequest:fulfilled"}, 200, hooks.Told, []string{"https://bitbucket.org/acme/fleet"}, "refs/heads/main"},
	{"bitbucket", "bitbucket_center_push", map[string]string{"X-Event-Key": "repo:refs_changed", "X-Request-Id": "d1"}, 200, hooks.Told, []string{"ssh://git@bitbucket.example.com:7999/plat/fleet.git"}, "refs/heads/main"},
	{"bitbucket", "bitbucket_center_merge", map[string]string{"X-Event-Key": "pr:merged"}, 200, hooks.Told, []string{"https://bitbucket.example.com/scm/plat/fleet.git"}, "refs/heads/main"},
	{"bitbucket", "bitbucket_center_old_push", map[string]string{"X-Event-Key": "repo:refs_changed"}, 200, hooks.Told, []string{""}, "refs/tags/v1"},
	{"azure", "azure_push", nil, 200, hooks.Told, []string{"https://dev.azure.com/acme/Infra/_git/fleet"}, "refs/heads/main"},
	{"azure", "azure_merge", nil, 200, hooks.Told, []string{"https://dev.azure.com/acme/Infra/_git/fleet"}, "refs/heads/main"},
}

var everyProvider = []string{"github * " + key, "gitlab * " + key, "gitea * " + key, "bitbucket * " + key, "azure * capstan:" + key}

func TestEachForgesCallsAreUnderstood(t *testing.T) {
	for _, c := range calls {
		t.Run(c.payload, func(t *testing.T) {
			f, body := newForge(t, everyProvider...), payload(t, c.payload)
			w := f.call(c.provider, body, proved(c.provider, key, body, c.headers))
			var got struct{ Status, Ref string }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != c.status || got.Status != string(c.outcome) || got.Ref != c.ref || strings.Join(f.refs, ",") != c.ref || !slices.Equal(f.pushed, c.pushed) || !slices.Equal(f.outcomes, []hooks.Outcome{c.outcome}) {
				t.Errorf("got %d %s, pushed %q, outcomes %v", w.Code, w.Body, f.pushed, f.outcomes)
			}
		})
	}
}

func TestACallThatIsNotProvedTellsNobody(t *testing.T) {
	for _, c := range calls {
		f, body := newForge(t, everyProvider...), payload(t, c.payload)
		good := proved(c.provider, key, body, c.headers)
		for name, headers := range map[string]map[string]string{
			"no proof":       c.headers,
			"another secret": proved(c.provider, "incorrect-horse-battery", body, c.headers),
			"another body":   proved(c.provider, key, body+" ", c.headers),
			"an odd proof":   {"X-Hub-Signature-256": "sha256=zz", "X-Hub-Signature": "sha1=00", "X-Gitea-Signature": "00", "Authorization": "Basic !"},
		} {
			if name == "another body" && (c.provider == "gitlab" || c.provider == "azure") {
				continue // they prove nothing about the body
			}
			if c.provider == "azure" && name == "another secret" {
				headers = map[string]string{"user": "somebody"}
			}
			w := f.call(c.provider, body, headers)
			var p client.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 401 || p.Status != 401 || p.Hint == "" || w.Header().Get("Content-Type") != client.ProblemType {
				t.Errorf("%s, %s: got %d %s", c.payload, name, w.Code, w.Body)
			}
		}
		if len(f.pushed) > 0 {
			t.Errorf("%s: told of %q", c.payload, f.pushed)
		}
		if w := f.call(c.provider, body, good); w.Code != c.status {
			t.Errorf("%s: a good call afterwards got %d", c.payload, w.Code)
		}
	}
}

// Who hears of a part of what moved would leave the rest alone.
func TestWhatMovedIsToldWholeOrNotAtAll(t *testing.T) {
	change := func(name string) string { return `{"name":"` + name + `"}` }
	call := func(names ...string) string {
		return `{"id":"d1","eventType":"git.push","resource":{"repository":{"remoteUrl":"https://dev.azure.com/acme/Infra/_git/fleet"},"refUpdates":[` + strings.Join(names, ",") + `]}}`
	}
	many := make([]string, 17)
	for i := range many {
		many[i] = change("refs/heads/b" + strings.Repeat("x", i))
	}
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"two":              {call(change("refs/heads/main"), change("refs/tags/v1")), []string{"refs/heads/main", "refs/tags/v1"}},
		"one without name": {call(change("refs/heads/main"), change("")), nil},
		"one that is long": {call(change("refs/heads/main"), change("refs/heads/"+strings.Repeat("x", 300))), nil},
		"one that is odd":  {call(change("refs/heads/main"), change(`refs/heads/\u0007`)), nil},
		"many":             {call(many...), nil},
		"none":             {call(), nil},
	} {
		f := newForge(t, everyProvider...)
		if w := f.call("azure", c.body, proved("azure", key, c.body, nil)); w.Code != 200 || len(f.pushed) != 1 || !slices.Equal(f.refs, c.want) {
			t.Errorf("%s: %d %s, told of %q %q", name, w.Code, w.Body, f.pushed, f.refs)
		}
	}
}

func TestADeliveryCountsOnce(t *testing.T) {
	f, body := newForge(t, everyProvider...), payload(t, "github_push")
	headers := proved("github", key, body, map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "d1"})
	f.fail = errors.New("no link")
	if w := f.call("github", body, headers); w.Code != 503 {
		t.Errorf("while agents can't be told: got %d %s", w.Code, w.Body)
	}
	f.fail = nil
	for range 3 {
		if w := f.call("github", body, headers); w.Code != 200 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	if want := []hooks.Outcome{hooks.Failed, hooks.Told, hooks.Repeated, hooks.Repeated}; len(f.pushed) != 1 || !slices.Equal(f.outcomes, want) {
		t.Errorf("told %d times: %v", len(f.pushed), f.outcomes)
	}
	headers["X-GitHub-Delivery"] = "d2"
	if f.call("github", body, headers); len(f.pushed) != 2 {
		t.Error("another delivery was taken for the same")
	}
}

func TestASecretSpeaksForItsRepositoryAlone(t *testing.T) {
	const mine, other = "a-secret-of-the-fleet", "a-secret-of-another-one"
	f := newForge(t, "github git@github.com:acme/fleet.git "+mine, "github https://github.com/acme/other "+other,
		"gitlab https://gitlab.example.com/platform/fleet "+mine, "gitlab https://gitlab.example.com/platform/other "+other,
		"bitbucket https://bitbucket.example.com/scm/plat/fleet.git "+mine)
	for _, c := range []struct{ provider, payload string }{{"github", "github_push"}, {"gitlab", "gitlab_push"}, {"bitbucket", "bitbucket_center_old_push"}} {
		body := payload(t, c.payload)
		event := map[string]string{"X-GitHub-Event": "push", "X-Event-Key": "repo:refs_changed"}
		if w := f.call(c.provider, body, proved(c.provider, other, body, event)); w.Code != 401 {
			t.Errorf("%s: another repository's secret got %d %s", c.provider, w.Code, w.Body)
		}
		if w := f.call(c.provider, body, proved(c.provider, mine, body, event)); w.Code != 200 {
			t.Errorf("%s: its own secret got %d %s", c.provider, w.Code, w.Body)
		}
	}
	if got := f.pushed[len(f.pushed)-1]; len(f.pushed) != 3 || got != "https://bitbucket.example.com/scm/plat/fleet.git" {
		t.Errorf("told of %q; a call without an address is about the secret's", f.pushed)
	}
	body := `{"test":true}`
	if w := f.call("bitbucket", body, proved("bitbucket", mine, body, map[string]string{"X-Event-Key": "diagnostics:ping"})); w.Code != 200 {
		t.Errorf("a ping without a repository got %d %s", w.Code, w.Body)
	}
}

func TestSecretsAreReadAgainWhenTheyChange(t *testing.T) {
	f, body := newForge(t, "github * "+key), payload(t, "github_push")
	status := func(secret string) int {
		return f.call("github", body, proved("github", secret, body, map[string]string{"X-GitHub-Event": "push"})).Code
	}
	const next = "the-next-secret-of-this-hook"
	f.write(t, "github * "+key, "github * "+next) // both, while the forge is told
	if a, b := status(key), status(next); a != 200 || b != 200 {
		t.Errorf("with both: got %d and %d", a, b)
	}
	f.write(t, "github * "+next)
	if a, b := status(key), status(next); a != 401 || b != 200 {
		t.Errorf("after: got %d and %d", a, b)
	}
	f.write(t, "github next")
	if got := status(next); got != 503 {
		t.Errorf("with a broken file: got %d, want 503", got)
	}
	os.Remove(f.file)
	if got := status(next); got != 503 {
		t.Errorf("without the file: got %d, want 503", got)
	}
}

func TestAWrongSecretFileIsSaidByItsLine(t *testing.T) {
	for line, want := range map[string]string{
		"github":                              "line 2: the second word",
		"svn * " + key:                        "line 2: the provider is not one of azure, bitbucket, gitea, github, gitlab",
		"github * short-secret":               "line 2: the secret has fewer than 16 characters",
		"github https://github.com/ " + key:   "line 2: the second word is neither",
		"github ftp://h/fleet.git " + key:     "line 2: the second word is not an address",
		"azure * " + key:                      "line 2: the secret is not USER:PASSWORD",
		"github https://github.com/a/b " + "": "line 2: the secret has fewer",
	} {
		file := filepath.Join(t.TempDir(), "secrets")
		if err := os.WriteFile(file, []byte("# forges\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := hooks.OpenSecrets(file); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "short-secret") {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

func TestFormsAreReadToo(t *testing.T) {
	f := newForge(t, everyProvider...)
	body := url.Values{"payload": {payload(t, "github_push")}}.Encode()
	headers := proved("github", key, body, map[string]string{"X-GitHub-Event": "push"})
	headers["Content-Type"] = "application/x-www-form-urlencoded"
	if w := f.call("github", body, headers); w.Code != 200 || len(f.pushed) != 1 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestNoCredentialReachesTheAgents(t *testing.T) {
	f := newForge(t, everyProvider...)
	body := strings.ReplaceAll(payload(t, "gitlab_push"), "https://gitlab", "https://oauth2:glpat-x@gitlab")
	f.call("gitlab", body, proved("gitlab", key, body, nil))
	if len(f.pushed) != 1 || strings.Contains(f.pushed[0], "glpat") {
		t.Errorf("told of %q", f.pushed)
	}
}

func TestMalformedCallsAreSaid(t *testing.T) {
	big := `{"x":"` + strings.Repeat("a", 9<<20) + `"}`
	for name, c := range map[string]struct {
		body, kind string
		status     int
	}{
		"no JSON":                            {"{", "application/json", 400},
		"no object":                          {"[]", "application/json", 400},
		"nothing":                            {"", "application/json", 400},
		"no repository":                      {`{"ref":"refs/heads/main"}`, "application/json", 400},
		"a wrong type":                       {`{"ref":7}`, "application/json", 400},
		"another type":                       {"{}", "text/plain", 400},
		"a broken form":                      {"%zz", "application/x-www-form-urlencoded", 400},
		"more than fits":                     {big, "application/json", 413},
		"a control character in the address": {`{"repository":{"clone_url":"https://h/a\u0000b"}}`, "application/json", 400},
	} {
		f := newForge(t, everyProvider...)
		headers := proved("github", key, c.body, map[string]string{"X-GitHub-Event": "push"})
		headers["Content-Type"] = c.kind
		if w := f.call("github", c.body, headers); w.Code != c.status || len(f.pushed) > 0 || w.Header().Get("Content-Type") != client.ProblemType {
			t.Errorf("%s: got %d %s", name, w.Code, w.Body)
		}
	}
	f := newForge(t, everyProvider...)
	for path, want := range map[string]int{"svn": 404, "": 404} {
		if w := f.call(path, "{}", nil); w.Code != want {
			t.Errorf("%q: got %d, want %d", path, w.Code, want)
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, hooks.Prefix+"github", http.NoBody))
	if w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: got %d", w.Code)
	}
}

func TestTheSecretsInTheManualAreGood(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "hub.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```\n# PROVIDER")
	example, _, ok := strings.Cut(rest, "```")
	f := newForge(t, "# PROVIDER"+example)
	body := payload(t, "azure_push")
	r := httptest.NewRequest(http.MethodPost, hooks.Prefix+"azure", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth("capstan", "5d1d8a0f2be94e3f")
	w := httptest.NewRecorder()
	if f.handler.ServeHTTP(w, r); !ok || w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
