package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

var paths = []string{"/", "/events", "/clusters", "/clusters/dev", "/apps/default/guestbook", "/clusters/dev/default/guestbook", "/nothing"}

func TestWhoMaySee(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	for token, want := range map[string]int{"see": 200, "do": 200, "": 401, "wrong": 401, "broken": 503, "often": 429} {
		for _, path := range paths {
			res, body := s.get(t, path, token)
			if res.StatusCode != want && (path != "/nothing" || want != 200) {
				t.Errorf("token %q, %s: %s, want %d", token, path, res.Status, want)
			}
			if want != 200 {
				hasNot(t, body, "guestbook")
			}
		}
	}
	res, body := s.get(t, "/", "often")
	has(t, body, "too many tokens came from there", "wait a minute")
	if res.Header.Get("Retry-After") == "" {
		t.Error("it is not said when to try again")
	}
	_, body = s.get(t, "/", "")
	has(t, body, "capstan open")
}

func TestALinkLogsABrowserInOnce(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	link, err := s.sessions.Issue(person("jane"))
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser(t)
	res, body := b.get(t, link, "")
	if res.StatusCode != 200 {
		t.Fatalf("login: %s", res.Status)
	}
	has(t, body, `http-equiv="refresh"`, `href="/"`)
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure {
		t.Errorf("cookie: %s", c)
	}
	if res, body := b.get(t, "/", ""); res.StatusCode != 200 || !strings.Contains(body, "jane") {
		t.Errorf("with the session: %s", res.Status)
	}
	if res, _ := s.get(t, "/", ""); res.StatusCode != 401 {
		t.Errorf("without it: %s", res.Status)
	}
	if res, body := s.browser(t).get(t, link, ""); res.StatusCode != 401 || len(res.Cookies()) != 0 {
		t.Errorf("the link once more: %s\n%s", res.Status, body)
	}

	*s.clock = s.clock.Add(12*time.Hour - time.Second)
	if res, _ := b.get(t, "/", ""); res.StatusCode != 200 {
		t.Errorf("just before its end: %s", res.Status)
	}
	*s.clock = s.clock.Add(time.Second)
	if res, _ := b.get(t, "/", ""); res.StatusCode != 401 {
		t.Errorf("at its end: %s", res.Status)
	}
}

func TestWhoLogsOutIsOut(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	b, other := s.browser(t), s.browser(t)
	for _, one := range []*site{b, other} {
		link, err := s.sessions.Issue(person("jane"))
		if err != nil {
			t.Fatal(err)
		}
		one.get(t, link, "")
	}
	cookies := b.client.Jar.Cookies(b.request(t, "/", "").URL)
	_, body := b.get(t, "/", "")
	has(t, body, `<form method="post" action="/logout">`, "Log out")
	if _, body := s.get(t, "/", "see"); strings.Contains(body, "Log out") {
		t.Error("who bears a token has no session to end")
	}
	post := func(header, value string) *http.Response {
		t.Helper()
		req := b.request(t, "/logout", "")
		req.Method = http.MethodPost
		req.Header.Set(header, value)
		res, err := b.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	if res := post("Sec-Fetch-Site", "cross-site"); res.StatusCode != http.StatusForbidden {
		t.Errorf("from elsewhere: %s", res.Status)
	}
	if res, _ := b.get(t, "/logout", ""); res.StatusCode == 200 {
		t.Errorf("by a link: %s", res.Status)
	}
	if res, _ := b.get(t, "/", ""); res.StatusCode != 200 {
		t.Errorf("before: %s", res.Status)
	}
	if res := post("Sec-Fetch-Site", "same-origin"); res.StatusCode != 200 || len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %s, %v", res.Status, res.Cookies())
	}
	if res, _ := b.get(t, "/", ""); res.StatusCode != 401 {
		t.Errorf("after: %s", res.Status)
	}
	// Not only the browser has forgotten it.
	b.client.Jar.SetCookies(b.request(t, "/", "").URL, cookies)
	if res, _ := b.get(t, "/", ""); res.StatusCode != 401 {
		t.Errorf("the old cookie: %s", res.Status)
	}
	if res, _ := other.get(t, "/", ""); res.StatusCode != 200 {
		t.Errorf("another browser: %s", res.Status)
	}
}

func TestALinkThatWaitedTooLong(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	link, err := s.sessions.Issue(person("jane"))
	if err != nil {
		t.Fatal(err)
	}
	*s.clock = s.clock.Add(5 * time.Minute)
	res, body := s.get(t, link, "")
	if res.StatusCode != 401 {
		t.Errorf("login: %s", res.Status)
	}
	has(t, body, "older than 5 minutes", "capstan open")
	if res, _ := s.get(t, "/login?code=", ""); res.StatusCode != 401 {
		t.Errorf("no code: %s", res.Status)
	}
}

func TestLookingAtALinkDoesNotSpendIt(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	link, err := s.sessions.Issue(person("jane"))
	if err != nil {
		t.Fatal(err)
	}
	req := s.request(t, link, "")
	req.Method = http.MethodHead
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res, _ := s.get(t, link, ""); res.StatusCode != 200 {
		t.Errorf("login: %s", res.Status)
	}
}

func TestWhatMayNotBeSeenIsAPageThatSaysSo(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	s := serve(t, hub)
	hub.Fail(fleet.WithHint(fleet.Forbidden(`"jane" has no role here`), "ask somebody"))
	res, body := s.get(t, "/", "see")
	if res.StatusCode != 403 {
		t.Errorf("status %s", res.Status)
	}
	has(t, body, "jane", "no role here", "ask somebody")
}

func TestASessionEndsWithTheTokenThatBeganIt(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	link, err := s.sessions.Issue(person("jane"))
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser(t)
	b.get(t, link, "")
	if res, _ := b.get(t, "/", ""); res.StatusCode != 200 {
		t.Fatalf("logged in: %s", res.Status)
	}
	delete(s.tokens, "see")
	if res, _ := b.get(t, "/", ""); res.StatusCode != 401 {
		t.Errorf("the token is gone: %s", res.Status)
	}
}

func TestLoginsAreBounded(t *testing.T) {
	now := time.Now()
	s := web.NewSessions(func() time.Time { return now })
	var err error
	for n := 0; err == nil && n < 5000; n++ {
		_, err = s.Issue(person("jane"))
	}
	if fleet.Hint(err) == "" {
		t.Errorf("thousands of links are never too many: %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := s.Issue(person("jane")); err != nil {
		t.Errorf("after the old ones have ended: %v", err)
	}
}

func TestPagesForbidWhatTheyDoNotNeed(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	for _, path := range []string{"/", "/login", "/nothing", "/live/nothing"} {
		res, _ := s.get(t, path, "see")
		policy := res.Header.Get("Content-Security-Policy")
		has(t, policy, "default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'")
		hasNot(t, policy, "unsafe", "*", "data:")
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, res.Header)
		}
		if len(res.Header.Values("Access-Control-Allow-Origin")) != 0 {
			t.Errorf("%s is open to other sites", path)
		}
	}
	res, err := s.client.Post(s.url+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode/100 != 4 {
		t.Errorf("a post: %s", res.Status)
	}
}

func TestAssetsAreThereAndKept(t *testing.T) {
	s := serve(t, fleettest.NewHub(fleettest.Sample()))
	_, body := s.get(t, "/", "see")
	n := 0
	for part := range strings.SplitSeq(body, `"`) {
		if !strings.HasPrefix(part, "/static/") {
			continue
		}
		n++
		res, _ := s.get(t, part, "")
		if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s %v", part, res.Status, res.Header)
		}
		path, _, _ := strings.Cut(part, "?")
		if res, _ := s.get(t, path+"?v=other", ""); res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s of another version may be kept", path)
		}
	}
	if n < 5 {
		t.Errorf("%d assets on the page", n)
	}
	if res, _ := s.get(t, "/static/vendor/README.md", ""); res.StatusCode != 404 {
		t.Errorf("what is no asset: %s", res.Status)
	}
}
