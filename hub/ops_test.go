package hub_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// opsOf connects to OPS as the nats command does with a credentials file.
func opsOf(t *testing.T, f *fort) *nats.Conn {
	t.Helper()
	creds, err := hub.OpsCredentials(filepath.Join(f.dir, "keys"), "jane", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(f.urls["tls"], nats.UserCredentialBytes(creds), nats.RootCAs(filepath.Join(f.dir, "tls", "ca.crt")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func request(t *testing.T, nc *nats.Conn, subject, params string) *nats.Msg {
	t.Helper()
	m, err := nc.Request(subject, []byte(params), 20*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return m
}

func TestTheFleetIsAskedOverNATSAsOverHTTP(t *testing.T) {
	f := newFort(t)
	nc := opsOf(t, f)
	if err := f.victim.report(fleet.AppName{Namespace: "shop", Name: "other"}, "second"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ subject, params, path string }{
		{"capstan.clusters", "", "clusters"},
		{"capstan.clusters", `{"selector":"env=dev"}`, "clusters?selector=env%3Ddev"},
		{"capstan.apps", "{}", "apps"},
		{"capstan.apps", `{"cluster":["victim","other"],"namespace":"shop","name":"web"}`, "apps?cluster=victim&cluster=other&namespace=shop&name=web"},
		{"capstan.apps", `{"limit":1,"fields":"app,sync"}`, "apps?limit=1&fields=app%2Csync"},
		{"capstan.pending", "", "apps?pending=true"},
		{"capstan.events", `{"action":"label","cluster":["victim"]}`, "events?action=label&cluster=victim"},
		{"capstan.changes", `{"limit":10}`, "changes?limit=10"},
	} {
		m := request(t, nc, c.subject, c.params)
		if e := m.Header.Get("Nats-Service-Error"); e != "" {
			t.Errorf("%s %s: %s %s", c.subject, c.params, e, m.Data)
			continue
		}
		code, want := get(t, f.url+"/api/v1/"+c.path, "secret0")
		if code != http.StatusOK || string(m.Data) != want {
			t.Errorf("%s %s:\n%s\nand over HTTP %d\n%s", c.subject, c.params, m.Data, code, want)
		}
	}
}

func TestMistakesOverNATSAreProblems(t *testing.T) {
	f := newFort(t)
	nc := opsOf(t, f)
	for params, want := range map[string]string{
		`{"selectr":"env"}`:           "selectr",
		`{"selector":"env in"}`:       "selector",
		`{"selector":{"env":"prod"}}`: "selector",
		`{"limit":0}`:                 "limit",
		`{"fields":"secret"}`:         "secret",
		`{"selector":["a","b"]}`:      "twice",
		`selector=env`:                "JSON object",
	} {
		m := request(t, nc, "capstan.apps", params)
		var p struct {
			Status       int
			Detail, Hint string
		}
		if err := json.Unmarshal(m.Data, &p); err != nil || p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, want) ||
			m.Header.Get("Nats-Service-Error-Code") != "400" {
			t.Errorf("%s: %v %s, %v", params, m.Header, m.Data, err)
		}
	}
	if m := request(t, nc, "capstan.pending", `{"pending":false}`); m.Header.Get("Nats-Service-Error-Code") != "400" {
		t.Errorf("pending is what is asked there: %s", m.Data)
	}
	if _, err := nc.Request("capstan.label", nil, 20*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("what is not served: %v", err)
	}
}

// As nats micro ls, info and stats do.
func TestTheServiceIsFound(t *testing.T) {
	nc := opsOf(t, newFort(t))
	var ping micro.Ping
	if err := json.Unmarshal(request(t, nc, "$SRV.PING", "").Data, &ping); err != nil || ping.Name != "capstan" || ping.Version == "" || ping.Metadata["instance"] == "" {
		t.Errorf("ping: %+v, %v", ping, err)
	}
	var info micro.Info
	if err := json.Unmarshal(request(t, nc, "$SRV.INFO.capstan."+ping.ID, "").Data, &info); err != nil || info.Description == "" {
		t.Errorf("info: %+v, %v", info, err)
	}
	var subjects []string
	for _, e := range info.Endpoints {
		if e.Metadata["description"] == "" {
			t.Errorf("%s is not described", e.Subject)
		}
		subjects = append(subjects, e.Subject)
	}
	docs, err := os.ReadFile(filepath.Join("..", "docs", "hub.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range subjects {
		if !strings.Contains(string(docs), "| `"+subject+"` | `GET ") {
			t.Errorf("docs/hub.md has no %s", subject)
		}
	}
	if got := strings.Join(subjects, " "); got != "capstan.clusters capstan.apps capstan.pending capstan.events capstan.changes" {
		t.Errorf("it answers at %s", got)
	}
	var stats micro.Stats
	if err := json.Unmarshal(request(t, nc, "$SRV.STATS.capstan", "").Data, &stats); err != nil || len(stats.Endpoints) != 5 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
}

func TestOpsCredentialsAreBounded(t *testing.T) {
	f := newFort(t)
	keys := filepath.Join(f.dir, "keys")
	for what, try := range map[string]func() error{
		"a name that is none":   func() error { _, err := hub.OpsCredentials(keys, "*", time.Hour, time.Now()); return err },
		"no life":               func() error { _, err := hub.OpsCredentials(keys, "x", 0, time.Now()); return err },
		"too long a life":       func() error { _, err := hub.OpsCredentials(keys, "x", 9000*time.Hour, time.Now()); return err },
		"a directory of no hub": func() error { _, err := hub.OpsCredentials(t.TempDir(), "x", time.Hour, time.Now()); return err },
	} {
		if err := try(); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
