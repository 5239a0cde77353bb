package hub_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/hub/store"
	webroom "github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

const guardPolicy = `
bindings:
- {roles: [viewer], tokens: [dev-viewer], clusters: env=dev}
- {roles: [operator, approver], tokens: [team], clusters: env=prod, apps: ["default/*"]}
- {roles: [admin], tokens: [dev-admin], clusters: env=dev}
- {roles: [operator, approver], tokens: [elsewhere], clusters: env=prod, apps: ["other/*"]}
`

// guarded is a small fleet behind the rules, over the API and the page.
type guarded struct {
	url    string
	fleet  *fleettest.Hub
	people *people.People
	access string
	store  *store.Memory
	now    time.Time
}

type pushable struct{ *fleettest.Hub }

func (pushable) GitPushed(context.Context, string, ...string) error { return nil }

// guard serves to tokens named like "secret-of-NAME".
func guard(t *testing.T) *guarded {
	t.Helper()
	dir := t.TempDir()
	g := &guarded{fleet: fleettest.NewHub(fleettest.Sample()), access: filepath.Join(dir, "access.yaml"), store: store.NewMemory(), now: time.Now()}
	var lines strings.Builder
	for _, name := range []string{"root admin", "see viewer", "git hook", "dev-viewer -", "team -", "dev-admin -", "elsewhere -", "nobody -"} {
		who, _, _ := strings.Cut(name, " ")
		sum := sha256.Sum256([]byte("secret-of-" + who))
		fmt.Fprintf(&lines, "%s sha256:%s\n", name, hex.EncodeToString(sum[:]))
	}
	for path, text := range map[string]string{filepath.Join(dir, "tokens"): lines.String(), g.access: guardPolicy} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tokens, err := people.OpenTokens(filepath.Join(dir, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	g.people, err = people.Open(people.Config{
		Tokens: tokens, AccessFile: g.access, Service: g.store.Bucket(store.Tokens), Now: func() time.Time { return g.now },
		Note: func(ctx context.Context, e fleet.Event) error {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			return g.store.Log().Append(ctx, "fleet", b)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	hub := g.people.Guard(pushable{g.fleet})
	sessions := webroom.NewSessions(nil)
	calls, err := api.New(api.Config{Hub: hub, People: g.people, GitPushed: hub.GitPushed, Logins: sessions})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := webroom.New(webroom.Config{Hub: hub, People: g.people, Sessions: sessions})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", calls)
	mux.Handle("/hooks/", calls)
	mux.Handle("/", pages)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(fleet.WithOrigin(r.Context(), "192.0.2.7")))
	}))
	t.Cleanup(s.Close)
	g.url = s.URL
	return g
}

func (g *guarded) as(t *testing.T, name string) *client.Client {
	t.Helper()
	return g.with(t, "secret-of-"+name)
}

func (g *guarded) with(t *testing.T, token string) *client.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c, err := client.New(client.Config{URL: g.url, Token: token, HTTP: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (g *guarded) page(t *testing.T, name, path string) (int, string) {
	t.Helper()
	return get(t, g.url+path, "secret-of-"+name)
}

func approve(cluster, app string) fleet.SignedApproval {
	b, err := fleet.Canonical(fleet.Approval{
		Action: fleet.ActionApply, App: app, Approver: "a", NotBefore: start, Expires: start.Add(time.Hour),
		Targets: []fleet.Target{{ClusterUID: "u", Cluster: cluster, Plan: "plan-1"}},
	})
	if err != nil {
		panic(err) // of constants
	}
	return fleet.SignedApproval{Statement: b, Signature: "s"}
}

// asked is everything that can be asked, by name.
func asked(ctx context.Context, c *client.Client) map[string]error {
	const other = "other/app"
	app := fleettest.Guestbook
	out := map[string]error{}
	_, out["clusters"] = c.Clusters(ctx, fleet.ClusterFilter{})
	_, out["apps"] = c.Apps(ctx, fleet.AppFilter{})
	_, out["events"] = c.Events(ctx, fleet.EventFilter{})
	_, out["changes"] = c.Changes(ctx, fleet.EventFilter{})
	_, out["plan prod"] = c.Plan(ctx, "prod", app)
	_, out["tree dev"] = c.Tree(ctx, "dev", app)
	_, out["history dev"] = c.History(ctx, "dev", app)
	_, out["sync dev"] = c.Sync(ctx, app, []string{"dev"})
	_, out["sync prod"] = c.Sync(ctx, app, []string{"prod"})
	_, out["sync both"] = c.Sync(ctx, app, []string{"dev", "prod"})
	_, out["suspend dev"] = c.Suspend(ctx, app, []string{"dev"}, "")
	_, out["suspend prod"] = c.Suspend(ctx, app, []string{"prod"}, "")
	_, out["suspend both"] = c.Suspend(ctx, app, []string{"dev", "prod"}, "")
	_, out["rollback dev"] = c.Rollback(ctx, "dev", app, fleet.RollbackTo{})
	_, out["resume dev"] = c.Resume(ctx, app, []string{"dev"}, "")
	_, out["resume prod"] = c.Resume(ctx, app, []string{"prod"}, "")
	out["approve prod"] = c.Approve(ctx, approve("prod", app.String()))
	out["approve dev"] = c.Approve(ctx, approve("dev", app.String()))
	out["approve other"] = c.Approve(ctx, approve("prod", other))
	out["reject prod"] = c.Reject(ctx, "prod", app, "plan-1", "no")
	_, out["label dev"] = c.LabelCluster(ctx, "dev", map[string]string{"team": "b"}, nil)
	_, out["label dev away"] = c.LabelCluster(ctx, "dev", map[string]string{"env": "prod"}, nil)
	_, out["label both"] = c.LabelClusters(ctx, []string{"dev", "staging"}, map[string]string{"team": "c"}, nil)
	_, out["label away together"] = c.LabelClusters(ctx, []string{"dev"}, map[string]string{"env": "prod"}, nil)
	_, out["label together"] = c.LabelClusters(ctx, []string{"dev"}, map[string]string{"team": "c"}, nil)
	_, out["label staging"] = c.LabelCluster(ctx, "staging", map[string]string{"env": "dev"}, nil)
	_, out["join"] = c.Join(ctx, "edge", time.Hour)
	out["remove staging"] = c.RemoveCluster(ctx, "staging")
	out["remove nowhere"] = c.RemoveCluster(ctx, "nowhere")
	_, out["create token"] = c.CreateToken(ctx, fleet.TokenRequest{Name: "x", Grant: fleet.Grant{Roles: []fleet.Role{"admin"}}, TTL: "1h"})
	_, out["list tokens"] = c.Tokens(ctx)
	out["revoke token"] = c.RevokeToken(ctx, "x")
	watch, cancel := context.WithCancel(ctx)
	changes, err := c.Watch(watch, "")
	out["watch"] = err
	cancel()
	if err == nil {
		for range changes { // until it is closed
		}
	}
	return out
}

func TestEverybodyMayWhatTheirRolesSay(t *testing.T) {
	reads := "clusters apps events changes watch"
	all := reads + " plan-prod tree-dev history-dev"
	for name, may := range map[string]string{
		"root":       "",
		"see":        all,
		"git":        "",
		"nobody":     "",
		"dev-viewer": reads + " tree-dev history-dev",
		"team":       reads + " plan-prod sync-prod suspend-prod resume-prod approve-prod reject-prod",
		"elsewhere":  reads + " approve-other",
		"dev-admin":  reads + " tree-dev history-dev sync-dev suspend-dev rollback-dev resume-dev approve-dev label-dev label-together",
	} {
		g := guard(t)
		for what, err := range asked(t.Context(), g.as(t, name)) {
			switch allowed := strings.Contains(" "+may+" ", " "+strings.ReplaceAll(what, " ", "-")+" "); {
			case name == "root":
				if errors.Is(err, fleet.ErrForbidden) {
					t.Errorf("the administrator may not %s: %v", what, err)
				}
			case allowed && err != nil:
				t.Errorf("%s may not %s: %v", name, what, err)
			case !allowed && (!errors.Is(err, fleet.ErrForbidden) || !strings.Contains(err.Error(), name) || fleet.Hint(err) == ""):
				t.Errorf("%s, %s: %v, want that it is forbidden, with the reason", name, what, err)
			}
		}
		for _, call := range g.fleet.Calls() {
			if call.Actor != name {
				t.Errorf("%s did %+v", name, call)
			}
		}
	}
}

// A cluster on which somebody sees some apps says nothing of the others.
func TestOnlyWhatMayBeSeenIsCounted(t *testing.T) {
	dev, prod := fleet.AppCounts{Total: 1, Synced: 1}, fleet.AppCounts{Total: 1, Pending: 1}
	for name, want := range map[string]map[string]fleet.AppCounts{
		"root":       {"dev": dev, "prod": prod, "staging": {}},
		"dev-viewer": {"dev": dev},
		"team":       {"prod": prod},
		"elsewhere":  {"prod": {}},
	} {
		for _, f := range []fleet.ClusterFilter{{}, {Selector: "env"}, {Names: []string{"prod", "dev"}}} {
			clusters, err := guard(t).as(t, name).Clusters(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range clusters {
				if c.Apps != want[c.Cluster] {
					t.Errorf("%s, %+v: %s has %+v, want %+v", name, f, c.Cluster, c.Apps, want[c.Cluster])
				}
			}
		}
	}
}

func TestOnlyWhatMayBeSeenIsListed(t *testing.T) {
	for name, want := range map[string]struct{ clusters, apps, changes string }{
		"root":       {"dev prod staging", "dev prod", "1 2 3 4"},
		"see":        {"dev prod staging", "dev prod", "1 2 3 4"},
		"dev-viewer": {"dev", "dev", "1 2 3"},
		"team":       {"prod", "prod", "4"},
		"elsewhere":  {"prod", "", ""}, // the change on prod is of another app
	} {
		g := guard(t)
		c := g.as(t, name)
		clusters, err := c.Clusters(t.Context(), fleet.ClusterFilter{})
		if err != nil {
			t.Fatal(err)
		}
		apps, err := c.Apps(t.Context(), fleet.AppFilter{})
		if err != nil {
			t.Fatal(err)
		}
		page, err := c.Changes(t.Context(), fleet.EventFilter{})
		if err != nil {
			t.Fatal(err)
		}
		var got [3][]string
		for _, c := range clusters {
			got[0] = append(got[0], c.Cluster)
		}
		for _, a := range apps {
			got[1] = append(got[1], a.Cluster)
		}
		for _, e := range page.Items {
			got[2] = append(got[2], e.ID)
		}
		for i, want := range []string{want.clusters, want.apps, want.changes} {
			if strings.Join(got[i], " ") != want {
				t.Errorf("%s sees %v, want %s", name, got[i], want)
			}
		}
		if asked, err := c.Sync(t.Context(), fleettest.Guestbook, nil); name == "team" && (err != nil || fmt.Sprint(asked) != "[prod]") {
			t.Errorf("a sync of all asks %v, %v", asked, err)
		}
		if asked, err := c.Suspend(t.Context(), fleettest.Guestbook, nil, ""); name == "team" && (err != nil || fmt.Sprint(asked) != "[prod]") {
			t.Errorf("a suspension of all asks %v, %v", asked, err)
		}
	}
}

func TestPagesShowWhatMayBeSeen(t *testing.T) {
	g := guard(t)
	for name, want := range map[string]map[string]int{
		"see":        {"/": 200, "/clusters/prod": 200, "/clusters/dev": 200, "/clusters/prod/default/guestbook": 200},
		"dev-viewer": {"/": 200, "/clusters/prod": 404, "/clusters/dev": 200, "/clusters/prod/default/guestbook": 404},
		"git":        {"/": 403, "/clusters/prod": 403, "/clusters/dev": 403, "/live/": 403},
		"nobody":     {"/": 403, "/clusters": 403},
	} {
		for path, status := range want {
			code, body := g.page(t, name, path)
			if code != status {
				t.Errorf("%s, %s: %d, want %d", name, path, code, status)
			}
			if name != "see" && (strings.Contains(body, "uid-prod") || strings.Contains(body, "waits for approval")) {
				t.Errorf("%s reads of prod at %s", name, path)
			}
		}
	}
}

func TestTheAccessFileIsReadAgain(t *testing.T) {
	g := guard(t)
	c := g.as(t, "nobody")
	is := func(name string, want error) {
		t.Helper()
		if _, err := g.as(t, name).Clusters(t.Context(), fleet.ClusterFilter{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	is("nobody", fleet.ErrForbidden)
	change := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(g.access, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(g.access, time.Now().Add(-age), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	noted := func() (all []string) {
		t.Helper()
		entries, err := g.store.Log().Last(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range entries {
			var e struct {
				fleet.Event
				Detail struct {
					SHA256   string
					Unusable bool
				} `json:"detail"`
			}
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			if e.Action == "access-file" {
				all = append(all, fmt.Sprint(e.Detail.SHA256[:8], e.Detail.Unusable))
			}
		}
		return all
	}
	change("bindings: [{roles: [viewer], tokens: [nobody]}]", time.Hour)
	is("nobody", nil)
	is("dev-viewer", fleet.ErrForbidden)
	change("bindings: [{roles: [owner]}]", 2*time.Hour)
	is("nobody", fleet.ErrUnavailable)
	if n := len(noted()); n != 2 {
		t.Errorf("%d changes are noted by the first request after the second", n)
	}
	is("root", nil) // what a token carries itself still counts
	if self, err := g.as(t, "root").Whoami(t.Context()); err != nil || self.Name != "root" || len(self.Grants) != 1 {
		t.Errorf("%+v, %v", self, err)
	}
	change(guardPolicy, 3*time.Hour)
	is("nobody", fleet.ErrForbidden)
	if self, err := g.as(t, "team").Whoami(t.Context()); err != nil || self.Grants[0].Clusters != "env=prod" {
		t.Errorf("%+v, %v", self, err)
	}
	_ = c
	// Each change is in the audit log, by nobody who asked.
	var want []string
	for _, text := range []string{"bindings: [{roles: [viewer], tokens: [nobody]}]", "bindings: [{roles: [owner]}]", guardPolicy} {
		want = append(want, fmt.Sprintf("%x", sha256.Sum256([]byte(text)))[:8]+fmt.Sprint(strings.Contains(text, "owner")))
	}
	if got := noted(); !slices.Equal(got, want) {
		t.Errorf("noted %v, want %v", got, want)
	}
}

func TestAServiceTokenMayItsScopeUntilItEnds(t *testing.T) {
	g := guard(t)
	root := g.as(t, "root")
	made, err := root.CreateToken(t.Context(), fleet.TokenRequest{
		Name: "ci", TTL: "1h", Grant: fleet.Grant{Roles: []fleet.Role{fleet.RoleOperator}, Clusters: "env=dev"},
	})
	if err != nil || made.CreatedBy != "root" || !strings.HasPrefix(made.Secret, "capstan_svc_ci_") {
		t.Fatal(made, err)
	}
	raw, _, err := g.store.Bucket(store.Tokens).Get(t.Context(), "ci")
	if err != nil || strings.Contains(string(raw), made.Secret) {
		t.Errorf("the hub keeps %s, %v", raw, err)
	}
	ci := g.with(t, made.Secret)
	is := func(what string, want error) {
		t.Helper()
		_, err := ci.Sync(t.Context(), fleettest.Guestbook, []string{"dev"})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	is("fresh", nil)
	if _, err := ci.Sync(t.Context(), fleettest.Guestbook, []string{"prod"}); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("beyond its scope: %v", err)
	}
	if self, err := ci.Whoami(t.Context()); err != nil || self.Via != fleet.ViaService || self.Expires == nil || !self.Expires.Equal(made.Expires) {
		t.Errorf("%+v, %v", self, err)
	}
	if list, err := root.Tokens(t.Context()); err != nil || len(list) != 1 || list[0].Name != "ci" {
		t.Errorf("%+v, %v", list, err)
	}
	g.now = g.now.Add(2 * time.Hour)
	is("expired", fleet.ErrForbidden)
	made, err = root.CreateToken(t.Context(), fleet.TokenRequest{Name: "ci", TTL: "1h", Grant: made.Grant}) // the name is free again
	if err != nil {
		t.Fatal(err)
	}
	is("the one before", fleet.ErrForbidden)
	ci = g.with(t, made.Secret)
	is("the next", nil)
	if err := root.RevokeToken(t.Context(), "ci"); err != nil {
		t.Fatal(err)
	}
	is("revoked", fleet.ErrForbidden)
	var log []string
	if err := g.store.Log().Read(t.Context(), nil, 0, time.Time{}, func(_ uint64, raw []byte) (bool, error) {
		log = append(log, string(raw))
		return true, nil
	}); err != nil || len(log) != 3 || strings.Contains(strings.Join(log, ""), made.Secret) || !strings.Contains(log[2], "token-revoke") {
		t.Errorf("audit: %q, %v", log, err)
	}
}

func TestTokensThatMakeNoSenseAreNotMade(t *testing.T) {
	g := guard(t)
	root := g.as(t, "root")
	viewer := fleet.Grant{Roles: []fleet.Role{fleet.RoleViewer}}
	if _, err := root.CreateToken(t.Context(), fleet.TokenRequest{Name: "ci", TTL: "1h", Grant: viewer}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r    fleet.TokenRequest
		want error
	}{
		"a name twice":  {fleet.TokenRequest{Name: "ci", TTL: "1h", Grant: viewer}, fleet.ErrConflict},
		"a bad name":    {fleet.TokenRequest{Name: "c_i", TTL: "1h", Grant: viewer}, fleet.ErrInvalid},
		"no role":       {fleet.TokenRequest{Name: "x", TTL: "1h"}, fleet.ErrInvalid},
		"no such role":  {fleet.TokenRequest{Name: "x", TTL: "1h", Grant: fleet.Grant{Roles: []fleet.Role{"owner"}}}, fleet.ErrInvalid},
		"no end":        {fleet.TokenRequest{Name: "x", Grant: viewer}, fleet.ErrInvalid},
		"too long":      {fleet.TokenRequest{Name: "x", TTL: "20000h", Grant: viewer}, fleet.ErrInvalid},
		"ended already": {fleet.TokenRequest{Name: "x", TTL: "-1h", Grant: viewer}, fleet.ErrInvalid},
		"no selector":   {fleet.TokenRequest{Name: "x", TTL: "1h", Grant: fleet.Grant{Roles: viewer.Roles, Clusters: "a in"}}, fleet.ErrInvalid},
		"no pattern":    {fleet.TokenRequest{Name: "x", TTL: "1h", Grant: fleet.Grant{Roles: viewer.Roles, Apps: []string{"web"}}}, fleet.ErrInvalid},
	} {
		if _, err := root.CreateToken(t.Context(), c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := root.RevokeToken(t.Context(), "nope"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("revoking what is not there: %v", err)
	}
	for _, token := range []string{"capstan_svc_ci_wrong", "capstan_svc_nope_x", "capstan_svc_", "capstan_svc_ci", "capstan_svc_a.b_c"} {
		if _, err := g.with(t, token).Whoami(t.Context()); !errors.Is(err, fleet.ErrForbidden) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", token, err)
		}
	}
}
