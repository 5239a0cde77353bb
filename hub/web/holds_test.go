package web_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

const devApp = "/clusters/dev/default/guestbook"

// post sends a form as a browser does from a page at "from", with what the site
// knows of the visitor, and does not go where it is led.
func (s *site) post(t *testing.T, path, token, from string, form url.Values) (*http.Response, string) {
	t.Helper()
	req := s.request(t, path, token)
	req.Method = http.MethodPost
	req.Body = io.NopCloser(strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", from)
	stay := *s.client
	stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := stay.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

var (
	forms   = regexp.MustCompile(`(?s)<form[^>]* method="post" action="(/clusters/[^"]*)">(.*?)</form>`)
	hiddens = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// press finds the form on a page whose button says what, and sends it.
func (s *site) press(t *testing.T, page, what, why string) (*http.Response, string) {
	t.Helper()
	_, body := s.get(t, page, "do")
	for _, f := range forms.FindAllStringSubmatch(body, -1) {
		if !strings.Contains(f[2], `type="submit">`+what+`</button>`) {
			continue
		}
		form := url.Values{"why": {why}}
		for _, h := range hiddens.FindAllStringSubmatch(f[2], -1) {
			form.Set(h[1], h[2])
		}
		return s.post(t, f[1], "do", "same-origin", form)
	}
	t.Fatalf("the page has no button %q:\n%s", what, body)
	return nil, ""
}

func TestThePageOfAnAppSuspendsRollsBackAndResumes(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	s := serve(t, hub)
	s.atNow()
	_, body := s.get(t, devApp, "do")
	has(t, read(body), "Follows Git", "Suspend default/guestbook on dev", "Roll back to main@sha1:11111111", "runs")
	hasNot(t, body, "Roll back to main@sha1:22222222", ">Resume<")

	for _, step := range []struct {
		press, why string
		call       string
		shows      []string
	}{
		{
			"Suspend default/guestbook on dev", "a <b>leak</b>", `Suspend: default/guestbook [dev] "a <b>leak</b>"`,
			[]string{"Does not follow Git", "Suspended by ada just now : a &lt;b&gt;leak&lt;/b&gt;", "Resume"},
		},
		{
			"Roll back to main@sha1:11111111", "", `Rollback: dev default/guestbook main@sha1:1111111111111111111111111111111111111111 ""`,
			[]string{"Rolled back to main@sha1:11111111 by ada", "Git has main@sha1:22222222"},
		},
		{"Resume", "", "Resume: default/guestbook [dev] suspend", []string{"Does not follow Git", "Rolled back to"}},
		{"Resume", "", "Resume: default/guestbook [dev] rollback", []string{"Follows Git"}},
	} {
		res, body := s.press(t, devApp, step.press, step.why)
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != devApp {
			t.Fatalf("%s: %s, to %s\n%s", step.press, res.Status, res.Header.Get("Location"), body)
		}
		_, body = s.get(t, devApp, "do")
		has(t, strings.Join(strings.Fields(read(body)), " "), step.shows...)
		calls := hub.Calls()
		if last := calls[len(calls)-1]; last.Method+": "+last.Detail != step.call || last.Actor != "ada" {
			t.Errorf("%s: %+v, want %s", step.press, last, step.call)
		}
	}
}

func TestAHeldAppIsNotCountedAsWanted(t *testing.T) {
	hub := fleettest.NewHub(large(3))
	if _, err := hub.Suspend(t.Context(), fleet.AppName{Namespace: "shop", Name: "web"}, []string{"edge-0002"}, ""); err != nil {
		t.Fatal(err)
	}
	_, body := serve(t, hub).get(t, "/", "see")
	has(t, read(body), "1 failing", "1 held", "1 as wanted")
}

func TestWhatAClusterRefusesIsShownAsRefused(t *testing.T) {
	seed := fleettest.Sample()
	seed.Apps[0].Holds = []fleet.Hold{{Kind: fleet.HoldSuspend, By: "jane", At: fleettest.When, Refused: "it is guarded <here>"}}
	_, body := serve(t, fleettest.NewHub(seed)).get(t, devApp, "see")
	has(t, strings.Join(strings.Fields(read(body)), " "), "Follows Git", "To be suspended by jane", "The cluster refuses: it is guarded &lt;here&gt;", "Resume", "Suspend default/guestbook on dev")
}

func TestWhatAClusterHasNotAnsweredIsShownAsAsked(t *testing.T) {
	for _, c := range []struct {
		hold  fleet.Hold
		shows []string
	}{
		{fleet.Hold{Kind: fleet.HoldRollback, By: "jane", At: fleettest.When, Revision: "main@sha1:1111111111", Asked: true}, []string{"Follows Git", "To be rolled back to", "The cluster has not said yet what it does"}},
		{fleet.Hold{Kind: fleet.HoldSuspend, By: "jane", At: fleettest.When, Ending: true}, []string{"Does not follow Git", "Suspended by jane", "Its end was asked for"}},
	} {
		seed := fleettest.Sample()
		seed.Apps[0].Holds = []fleet.Hold{c.hold}
		_, body := serve(t, fleettest.NewHub(seed)).get(t, devApp, "see")
		has(t, strings.Join(strings.Fields(read(body)), " "), c.shows...)
	}
}

func TestNobodyElseHoldsAnApp(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	s := serve(t, hub)
	for name, c := range map[string]struct {
		path, token, from string
		status            int
	}{
		"a page elsewhere":   {devApp + "/suspend", "do", "cross-site", http.StatusForbidden},
		"a stranger":         {devApp + "/suspend", "", "same-origin", http.StatusUnauthorized},
		"an order of no one": {devApp + "/dance", "do", "same-origin", http.StatusNotFound},
		"an app of no one":   {"/clusters/dev/default/none/suspend", "do", "same-origin", http.StatusNotFound},
		"what is not held":   {devApp + "/resume", "do", "same-origin", http.StatusConflict},
	} {
		if res, body := s.post(t, c.path, c.token, c.from, nil); res.StatusCode != c.status {
			t.Errorf("%s: %s\n%s", name, res.Status, body)
		}
	}
	res, _ := s.get(t, devApp+"/suspend", "do")
	if res.StatusCode == http.StatusOK {
		t.Errorf("by a link: %s", res.Status)
	}
	if res, body := s.post(t, devApp+"/suspend", "do", "same-origin", url.Values{"why": {strings.Repeat("x", 20<<10)}}); res.StatusCode != http.StatusBadRequest {
		t.Errorf("too much: %s\n%s", res.Status, body)
	}
	if calls := hub.Calls(); len(calls) != 0 {
		t.Errorf("done: %+v", calls)
	}
}

// Everything can be reached and named without a mouse and without a script.
func TestTheButtonsOfAnAppWorkByKeyboard(t *testing.T) {
	hub := fleettest.NewHub(fleettest.Sample())
	if _, err := hub.Rollback(t.Context(), "dev", fleettest.Guestbook, fleet.RollbackTo{}); err != nil {
		t.Fatal(err)
	}
	_, body := serve(t, hub).get(t, devApp, "do")
	inputs := regexp.MustCompile(`<input id="([^"]+)" name="why"`).FindAllStringSubmatch(body, -1)
	if len(inputs) != 2 {
		t.Errorf("%d reasons can be given", len(inputs))
	}
	for _, in := range inputs {
		has(t, body, `<label for="`+in[1]+`">`)
	}
	if n, m := strings.Count(body, "<details class=\"act\"><summary id="), strings.Count(body, "<details class=\"act\">"); n != m || n != 2 {
		t.Errorf("%d of %d that open have a summary with a name", n, m)
	}
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if ids[id[1]] {
			t.Errorf("id %s is there twice", id[1])
		}
		ids[id[1]] = true
	}
	for _, f := range forms.FindAllStringSubmatch(body, -1) {
		if strings.Count(f[2], `type="submit"`) != 1 {
			t.Errorf("a form has not exactly one button: %s", f[0])
		}
	}
	hasNot(t, body, "tabindex=\"1\"", "onclick")
}
