package hub_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a hub until the returned function is called, which returns Run's error.
func run(t *testing.T, cfg hub.Config) (hub.Addresses, func() error) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.NATSListen == "" {
		cfg.NATSListen = "127.0.0.1:0"
	}
	up, done := make(chan hub.Addresses, 1), make(chan error, 1)
	cfg.Started = func(a hub.Addresses) { up <- a }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- hub.Run(ctx, cfg) }()
	stop := func() error { cancel(); return <-done }
	select {
	case a := <-up:
		return a, stop
	case err := <-done:
		cancel()
		t.Fatalf("the hub ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the hub is not up")
	}
	return hub.Addresses{}, stop
}

func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func adminToken(t *testing.T, a hub.Addresses) string {
	t.Helper()
	info, err := os.Stat(a.AdminToken)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("admin token: %v, %v", info, err)
	}
	b, err := os.ReadFile(a.AdminToken)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestAHubServesPeopleAndEndsInGoodOrder(t *testing.T) {
	dir := t.TempDir()
	a, stop := run(t, hub.Config{DataDir: dir})
	token := adminToken(t, a)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, client.Prefix + "/apps": 401} {
		if code, body := get(t, a.URL+path, ""); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := get(t, a.URL+"/", token); code != 200 {
		t.Errorf("the page: %d %s", code, body)
	}
	if code, _ := get(t, a.URL+"/", ""); code == 200 {
		t.Error("a stranger gets the page")
	}
	c, err := client.New(client.Config{URL: a.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := c.Join(t.Context(), "dev", 0)
	if err != nil {
		t.Fatal(err)
	}
	join, err := wire.ParseJoinToken(grant.Token)
	if err != nil || join.URLs[0] != a.NATSURLs[0] {
		t.Errorf("the token leads to %v, %v", join.URLs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := c.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Errorf("ended with %v", err)
	}
	cancel()
	for range changes { // until it is closed
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTheAdministratorsTokenAndTheInstanceStay(t *testing.T) {
	dir := t.TempDir()
	var tokens, instances []string
	for range 2 {
		a, stop := run(t, hub.Config{DataDir: dir})
		tokens = append(tokens, adminToken(t, a))
		b, err := os.ReadFile(filepath.Join(dir, "instance"))
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, string(b))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if tokens[0] != tokens[1] || instances[0] != instances[1] {
		t.Error("they changed with a restart")
	}
}

func TestADirectoryTakesOneHub(t *testing.T) {
	dir := t.TempDir()
	_, stop := run(t, hub.Config{DataDir: dir})
	err := hub.Run(t.Context(), hub.Config{DataDir: dir, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0"})
	if !errors.Is(err, fleet.ErrConflict) || fleet.Hint(err) == "" {
		t.Errorf("got %v, want ErrConflict with a hint", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestConfigurationsThatMakeNoSenseAreSaid(t *testing.T) {
	for name, c := range map[string]hub.Config{
		"no data directory":        {NATSListen: "127.0.0.1:0"},
		"a certificate alone":      {DataDir: "d", NATSListen: "127.0.0.1:0", NATSCert: "c"},
		"a CA alone":               {DataDir: "d", NATSListen: "127.0.0.1:0", NATSCA: "c"},
		"no way for agents":        {DataDir: "d", NATSListen: ":4222"},
		"no way for agents either": {DataDir: "d", NATSListen: "0.0.0.0:4222"},
		"a URL for agents":         {DataDir: "d", NATSListen: ":4222", NATSURLs: []string{"http://hub"}},
		"a secret in a URL":        {DataDir: "d", NATSListen: ":4222", NATSURLs: []string{"nats://a:b@hub:4222"}},
		"a URL for people":         {DataDir: "d", NATSListen: "127.0.0.1:0", URL: "hub.example.com"},
		"no port":                  {DataDir: "d", NATSListen: "127.0.0.1"},
	} {
		if err := c.Validate(); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if err := (hub.Config{DataDir: "d", NATSListen: ":4222", NATSURLs: []string{"tls://hub:4222"}, URL: "https://hub"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestWatchersHearWhenAClusterFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		d, spokes, err := desk.New(t.Context(), desk.Config{
			Instance: "hub1", Intents: s.Bucket(store.Intent), Statuses: s.Bucket(store.Status), Clusters: s.Bucket(store.Clusters),
			Joins: s.Bucket(store.Joins), Approvals: s.Bucket(store.Approvals), Audit: s.Log(), Changes: s.Changes(), View: view.New(), Link: &wires{pushed: map[string][]fleet.Intent{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		o := &office{Desk: d, spokes: spokes, store: s}
		o.enrolled(t, "dev")
		if err := o.report(t, "dev", 1, 1, "well"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		c, err := d.Watch(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		<-c // how it is now
		began := time.Now()
		<-c
		if waited := time.Since(began); waited < 30*time.Second || waited > 32*time.Second {
			t.Errorf("told after %s, want 30s", waited)
		}
		apps, err := d.Apps(t.Context(), fleet.AppFilter{})
		if err != nil || len(apps) != 1 || !apps[0].Stale || apps[0].Sync != fleet.SyncUnknown {
			t.Errorf("got %+v, %v", apps, err)
		}
		seen := time.Now()
		o.beat(t, "dev", 1)
		<-c
		apps, err = d.Apps(t.Context(), fleet.AppFilter{})
		if err != nil || apps[0].Stale || apps[0].Sync != fleet.Pending {
			t.Errorf("back: got %+v, %v", apps, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// When it was last seen is written down at the end.
		again := view.New()
		if _, _, err := desk.New(t.Context(), desk.Config{
			Instance: "hub1", Intents: s.Bucket(store.Intent), Statuses: s.Bucket(store.Status), Clusters: s.Bucket(store.Clusters),
			Joins: s.Bucket(store.Joins), Approvals: s.Bucket(store.Approvals), Audit: s.Log(), Changes: s.Changes(), View: again,
		}); err != nil {
			t.Fatal(err)
		}
		if got, _ := again.Cluster("dev", time.Now()); !got.LastSeen.Equal(seen) {
			t.Errorf("last seen %s, want %s", got.LastSeen, seen)
		}
	})
}

// post sends an empty object, and returns the status.
func post(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
