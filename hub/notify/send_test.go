package notify_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/notify"
)

// place takes what is sent over HTTP.
type place struct {
	*httptest.Server
	path, kind, token, private string
	body                       []byte
	status                     int
	header                     http.Header
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{status: 200}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.path, p.kind, p.token, p.private = r.URL.EscapedPath(), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), r.Header.Get("PRIVATE-TOKEN")
		p.body, _ = io.ReadAll(r.Body)
		maps.Copy(w.Header(), p.header)
		w.WriteHeader(p.status)
		io.WriteString(w, "you sent s3cret")
	}))
	t.Cleanup(p.Close)
	return p
}

func secret(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func send(t *testing.T, m notify.Message, format string, a ...any) error {
	t.Helper()
	r := routes(t, "routes:\n- {name: r, "+fmt.Sprintf(format, a...)+"}")
	return r[0].Send(t.Context(), m)
}

func sample(trigger notify.Trigger) notify.Message {
	return notify.Sample("r", trigger, start, "https://hub.example.com")
}

// at looks up a path of keys and indices in JSON.
func at(t *testing.T, body []byte, path ...any) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v, _ = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func TestEachKindOfPlaceGetsItsForm(t *testing.T) {
	p := newPlace(t)
	token := secret(t, "s3cret")
	const commit = "0123456789abcdef0123456789abcdef01234567"
	resolved := sample(notify.Degraded)
	resolved.Resolved = true
	for name, c := range map[string]struct {
		message        notify.Message
		route          string
		path, kind     string
		token, private string
		where          []any
		want           string
	}{
		"webhook type":    {sample(notify.Degraded), "on: [degraded], webhook: {url: '%s/in', tokenFile: " + token + "}", "/in", "application/cloudevents+json", "Bearer s3cret", "", []any{"type"}, "dev.capstan.app.degraded"},
		"webhook version": {sample(notify.Stale), "on: [stale], webhook: {url: '%s/in'}", "/in", "application/cloudevents+json", "", "", []any{"specversion"}, "1.0"},
		"webhook cluster": {sample(notify.Stale), "on: [stale], webhook: {url: '%s/in'}", "/in", "application/cloudevents+json", "", "", []any{"type"}, "dev.capstan.cluster.stale"},
		"webhook subject": {sample(notify.Stale), "on: [stale], webhook: {url: '%s/in'}", "/in", "application/cloudevents+json", "", "", []any{"subject"}, "example"},
		"webhook over":    {resolved, "on: [degraded], webhook: {url: '%s/in'}", "/in", "application/cloudevents+json", "", "", []any{"type"}, "dev.capstan.app.degraded.resolved"},
		"webhook text":    {sample(notify.Degraded), "on: [degraded], template: '<{{ .App }}> {{ short .Revision }}', webhook: {url: '%s/in'}", "/in", "application/cloudevents+json", "", "", []any{"data", "text"}, "<web> main@sha1:01234567"},
		"slack":           {sample(notify.Degraded), "on: [degraded], template: '<{{ .App }}>', slack: {url: '%s/services/T/B/x'}", "/services/T/B/x", "application/json", "", "", []any{"text"}, "*example/team-a/web is degraded*\n&lt;web&gt;"},
		"teams":           {sample(notify.Synced), "on: [synced], teams: {url: '%s/workflow'}", "/workflow", "application/json", "", "", []any{"attachments", 0, "content", "body", 0, "text"}, "example/team-a/web is in sync at main@sha1:01234567"},
		"teams link":      {sample(notify.Synced), "on: [synced], teams: {url: '%s/workflow'}", "/workflow", "application/json", "", "", []any{"attachments", 0, "content", "actions", 0, "url"}, "https://hub.example.com/clusters/example/team-a/web"},
		"alertmanager":    {sample(notify.Drift), "on: [drift], alertmanager: {url: '%s/', labels: {team: a}}", "/api/v2/alerts", "application/json", "", "", []any{0, "labels", "alertname"}, "CapstanDrift"},
		"alert labels":    {sample(notify.Drift), "on: [drift], alertmanager: {url: '%s', labels: {team: a}}", "/api/v2/alerts", "application/json", "", "", []any{0, "labels", "team"}, "a"},
		"github":          {sample(notify.Degraded), "on: [degraded], github: {url: '%s', repository: acme/fleet, tokenFile: " + token + "}", "/repos/acme/fleet/statuses/" + commit, "application/json", "Bearer s3cret", "", []any{"state"}, "failure"},
		"github over":     {resolved, "on: [degraded], github: {url: '%s', repository: acme/fleet, tokenFile: " + token + "}", "/repos/acme/fleet/statuses/" + commit, "application/json", "Bearer s3cret", "", []any{"state"}, "success"},
		"gitlab":          {sample(notify.Pending), "on: [pending], gitlab: {url: '%s', repository: group/sub/fleet, tokenFile: " + token + "}", "/api/v4/projects/group%%2Fsub%%2Ffleet/statuses/" + commit, "application/json", "", "s3cret", []any{"state"}, "pending"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := send(t, c.message, c.route, p.URL); err != nil {
				t.Fatal(err)
			}
			path := strings.ReplaceAll(c.path, "%%", "%")
			if p.path != path || p.kind != c.kind || p.token != c.token || p.private != c.private {
				t.Errorf("got %s, %s, %q, %q", p.path, p.kind, p.token, p.private)
			}
			if got := at(t, p.body, c.where...); got != c.want {
				t.Errorf("%v is %v, want %s\n%s", c.where, got, c.want, p.body)
			}
		})
	}
}

func TestAlertsEndWhenTheStateIsOver(t *testing.T) {
	p := newPlace(t)
	for _, over := range []bool{false, true} {
		m := sample(notify.Degraded)
		m.Resolved = over
		if err := send(t, m, "on: [degraded], alertmanager: {url: '%s'}", p.URL); err != nil {
			t.Fatal(err)
		}
		ends, err := time.Parse(time.RFC3339Nano, at(t, p.body, 0, "endsAt").(string))
		if err != nil || ends.After(time.Now()) == over {
			t.Errorf("over %t: ends at %s, %v", over, ends, err)
		}
	}
}

func TestErrorsSayWhereAndNothingSecret(t *testing.T) {
	p := newPlace(t)
	where := secret(t, p.URL+"/services/s3cret")
	for status, want := range map[int]string{401: "answers 401", 500: "answers 500", 302: "answers 302"} {
		p.status, p.header = status, http.Header{"Location": {p.URL + "/elsewhere"}}
		err := send(t, sample(notify.Stale), "on: [stale], slack: {urlFile: %s}", where)
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1 "+want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: got %v", status, err)
		}
		if p.path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
	}
	p.Close()
	err := send(t, sample(notify.Stale), "on: [stale], slack: {urlFile: %s}", where)
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("nobody there: got %v", err)
	}
	for _, content := range []string{"", "https://h/\x7f s3cret"} {
		err := send(t, sample(notify.Stale), "on: [stale], slack: {urlFile: %s}", secret(t, content))
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: got %v", content, err)
		}
	}
	if err := send(t, sample(notify.Stale), "on: [stale], slack: {urlFile: /nowhere}"); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("no file: got %v", err)
	}
}

func TestAPlaceWithACertificateOfOurOwnIsTrustedByItsFile(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	ca := secret(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if err := send(t, sample(notify.Stale), "on: [stale], webhook: {url: '%s'}", s.URL); err == nil {
		t.Error("an unknown certificate was trusted")
	}
	if err := send(t, sample(notify.Stale), "on: [stale], webhook: {url: '%s', caFile: %s}", s.URL, ca); err != nil {
		t.Error(err)
	}
}
