package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){"capstan": main})
}

// leakFree fails a run that leaves goroutines behind.
type leakFree struct{ m *testing.M }

func (l leakFree) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const adminToken = "token-of-jane"

// TestCommands runs the scripts in testdata, each against its own small fleet
// behind the hub's real API.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"asked":      asked,
			"calls":      calls,
			"hubsays":    hubSays,
			"tamper":     tamper,
			"newkey":     newKey,
			"degrade":    degrade,
			"refuse":     refuse,
			"ingit":      inGit,
			"eventually": eventually,
		},
	})
}

type hubKey struct{}

// testHub is what a script's commands reach.
type testHub struct {
	*fleettest.Hub
	seed fleettest.Seed

	mu       sync.Mutex
	tampered map[string]fleet.SignedPlan // by cluster
	refuses  string                      // cluster that takes no approval and no suspension
	because  string                      // of an approval
}

// Approve lets the clusters answer, as they do after a moment: an approval
// counts, and is not yet enough.
func (h *testHub) Approve(ctx context.Context, a fleet.SignedApproval) error {
	if err := h.Hub.Approve(ctx, a); err != nil {
		return err
	}
	var statement fleet.Approval
	if err := json.Unmarshal(a.Statement, &statement); err != nil {
		return err
	}
	for _, t := range statement.Targets {
		found, err := h.Apps(ctx, fleet.AppFilter{Clusters: []string{t.Cluster}, Name: guestbook.Name})
		if err != nil {
			return err
		}
		p := *found[0].Pending
		h.mu.Lock()
		if h.refuses == t.Cluster {
			found[0].Message = "waits for approval (0 of 1); an approval in the name of " + statement.Approver + " was refused: " + h.because
		} else {
			p.Have++
		}
		h.mu.Unlock()
		found[0].Pending = &p
		h.SetApp(found[0])
	}
	return nil
}

// Suspend lets a cluster refuse it.
func (h *testHub) Suspend(ctx context.Context, app fleet.AppName, clusters []string, why string) ([]string, error) {
	asked, err := h.Hub.Suspend(ctx, app, clusters, why)
	h.mu.Lock()
	refuses := h.refuses
	h.mu.Unlock()
	for _, c := range asked {
		if c != refuses {
			continue
		}
		found, err := h.Apps(ctx, fleet.AppFilter{Clusters: []string{c}, Name: app.Name, Namespace: app.Namespace})
		if err != nil {
			return nil, err
		}
		found[0].Holds[0].Refused = "this cluster does not let the hub suspend apps"
		h.SetApp(found[0])
	}
	return asked, err
}

// Plan gives what a hub gives that can't be trusted.
func (h *testHub) Plan(ctx context.Context, cluster string, app fleet.AppName) (fleet.SignedPlan, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.tampered[cluster]; ok {
		return s, nil
	}
	return h.Hub.Plan(ctx, cluster, app)
}

func (*testHub) Issue(id fleet.Identity) (string, error) { return "/login?code=for-" + id.Name, nil }

func setUp(env *testscript.Env) error {
	seed := seedFleet()
	h := &testHub{Hub: fleettest.NewHub(seed), seed: seed, tampered: map[string]fleet.SignedPlan{}}
	jane := fleet.Identity{Via: fleet.ViaToken, Name: "jane", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleAdmin}}}}
	people := &fleettest.People{Known: map[string]fleet.Identity{adminToken: jane}}
	handler, err := api.New(api.Config{
		Hub: h, People: people, Logins: h,
		GitPushed: func(context.Context, string, ...string) error { return nil },
	})
	if err != nil {
		return err
	}
	server := httptest.NewServer(handler)
	env.Defer(server.Close)
	env.Values[hubKey{}] = h
	env.Setenv("CAPSTAN_HUB", server.URL)
	env.Setenv("CAPSTAN_TOKEN", adminToken)
	env.Setenv("CAPSTAN_KNOWN_AGENTS", filepath.Join(env.WorkDir, "known_agents"))
	env.Setenv("SSH_AUTH_SOCK", "")
	return nil
}

var guestbook = fleet.AppName{Namespace: "shop", Name: "guestbook"}

// seedFleet has the guestbook on dev, waiting on prod and eu, and an app
// called cart in two namespaces.
func seedFleet() fleettest.Seed {
	when := time.Now().Add(-90 * time.Minute)
	seed := fleettest.Sample()
	seed.Apps = nil
	for i := range seed.Clusters {
		seed.Clusters[i].LastSeen = when
	}
	seed.Clusters = append(seed.Clusters, fleet.Cluster{Cluster: "eu", UID: "uid-eu", Labels: map[string]string{"env": "prod"}, LastSeen: when})
	seed.Plans, seed.Trees = map[fleettest.Key]fleet.SignedPlan{}, map[fleettest.Key][]fleet.Object{
		{Cluster: "dev", App: guestbook}: {
			{Object: fleet.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "guestbook-ui"}, Health: fleet.Progressing, Message: "1 of 3 ready"},
			{Object: fleet.ObjectRef{Version: "v1", Kind: "Service", Namespace: "shop", Name: "guestbook-ui"}, Health: fleet.Healthy},
		},
	}
	seed.History = map[fleettest.Key][]fleet.HistoryEntry{
		{Cluster: "dev", App: guestbook}: {
			{Revision: fleet.NewRevision("main", strings.Repeat("2", 40)), Digest: "sha256:bb", Applied: when, ApprovedBy: []string{"alice"}, Summary: fleet.Summary{Update: 1}},
			{Revision: fleet.NewRevision("main", strings.Repeat("1", 40)), Digest: "sha256:aa", Applied: when.Add(-time.Hour), Summary: fleet.Summary{Create: 2}},
		},
	}
	running := fleet.AppStatus{
		Namespace: "shop", Revision: fleet.NewRevision("main", strings.Repeat("1", 40)), Digest: "sha256:aa",
		Sync: fleet.Synced, Health: fleet.Healthy, Objects: 2, Path: "apps/x", Changed: when,
	}
	add := func(cluster, namespace, name string, change func(*fleet.AppStatus)) {
		s := running
		s.Cluster, s.Namespace, s.App = cluster, namespace, name
		if change != nil {
			change(&s)
		}
		seed.Apps = append(seed.Apps, s)
	}
	add("dev", "shop", "guestbook", func(s *fleet.AppStatus) {
		s.Health = fleet.Progressing
		s.Images = []string{"registry.example.com/guestbook:v2", "registry.example.com/redis:7.2"}
		s.Drift = []fleet.DriftSummary{{Object: fleet.ObjectRef{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "guestbook-ui"}, Manager: "kubectl-edit", Fields: []string{"/spec/replicas"}, Since: when}}
	})
	add("dev", "shop", "cart", nil)
	add("dev", "test", "cart", func(s *fleet.AppStatus) { s.Message = "line one\nline \x1b[31mtwo" })
	for _, cluster := range []string{"prod", "eu"} {
		p := seedPlan(cluster)
		seed.Plans[fleettest.Key{Cluster: cluster, App: guestbook}] = signPlan(p, agentKey())
		add(cluster, "shop", "guestbook", func(s *fleet.AppStatus) {
			s.Revision, s.Digest, s.Sync, s.Health, s.Message = "", "", fleet.Pending, fleet.Healthy, "waits for approval (0 of 1)"
			s.Pending = &fleet.PendingPlan{
				Revision: p.Revision, Digest: p.To, Gate: p.Gate, Plan: p.ID, Action: p.Action,
				Summary: fleet.Summarize(p.Changes), Since: when, Need: 1,
			}
		})
	}
	return seed
}

func agentKey() nkeys.KeyPair {
	key, err := nkeys.CreateUser()
	if err != nil {
		panic(err) // out of randomness
	}
	return key
}

func seedPlan(cluster string) fleet.Plan {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	wanted := &fleet.Document{
		Spec: raw(`{"path":"apps/guestbook"}`), RepoURL: "https://git.example.com/fleet.git",
		Objects: []json.RawMessage{
			raw(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"guestbook","namespace":"shop"},"data":{"password":"hmac-sha256:0123"}}`),
			raw(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"guestbook-ui","namespace":"shop"},"spec":{"ports":[{"port":80}]}}`),
			raw(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"guestbook-ui","namespace":"shop"},"spec":{"replicas":3}}`),
			raw(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"migrate","namespace":"shop"},"spec":{"backoffLimit":0}}`),
			raw(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"smoke","namespace":"shop"},"spec":{"backoffLimit":7}}`),
		},
	}
	to, err := wanted.Digest()
	if err != nil {
		panic(err) // of constants
	}
	core := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "guestbook"}
	return fleet.Plan{
		ID: "plan-" + cluster, Action: fleet.ActionApply, App: guestbook, Cluster: cluster, ClusterUID: "uid-" + cluster,
		To: to, Revision: fleet.NewRevision("main", strings.Repeat("2", 40)), Gate: fleet.GateApproval,
		Reason: "prod needs an approval", Created: fleettest.When, Wanted: wanted,
		Changes: []fleet.Change{
			{Object: core, Action: fleet.Create},
			{Object: fleet.ObjectRef{Version: "v1", Kind: "Service", Namespace: "shop", Name: "guestbook-ui"}, Action: fleet.Create},
			{
				Object: fleet.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "guestbook-ui"}, Action: fleet.Update,
				Fields: []fleet.FieldDiff{{Path: "/spec/replicas", From: raw("1"), To: raw("3")}},
			},
			{Object: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "old"}, Action: fleet.Prune},
			{Object: fleet.ObjectRef{Group: "batch", Version: "v1", Kind: "Job", Namespace: "shop", Name: "migrate"}, Action: fleet.RunHook, Note: "PreSync hook"},
			{
				Object: fleet.ObjectRef{Group: "batch", Version: "v1", Kind: "Job", Namespace: "shop", Name: "smoke"}, Action: fleet.RunHook, Note: "PostSync hook",
				Fields: []fleet.FieldDiff{{Path: "/spec/backoffLimit", From: raw("6"), To: raw("7")}},
			},
		},
	}
}

func signPlan(p fleet.Plan, key nkeys.KeyPair) fleet.SignedPlan {
	public, err := key.PublicKey()
	if err != nil {
		panic(err) // of a key just made
	}
	s, err := signing.SignPlan(key.Sign, public, p)
	if err != nil {
		panic(err) // of constants
	}
	return s
}

func hubOf(ts *testscript.TestScript) *testHub { return ts.Value(hubKey{}).(*testHub) }

// calls prints what the hub was asked to change: calls > FILE is not needed,
// stdout can be matched after it.
func calls(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: calls FILE")
	}
	var out strings.Builder
	for _, c := range hubOf(ts).Calls() {
		fmt.Fprintf(&out, "%s by %s: %s\n", c.Method, c.Actor, c.Detail)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(out.String()), 0o600))
}

// asked verifies the last approval as a spoke would: asked ALLOWED_SIGNERS FILE.
func asked(ts *testscript.TestScript, neg bool, args []string) {
	all := hubOf(ts).Calls()
	if neg || len(args) != 2 || len(all) == 0 || all[len(all)-1].Method != "Approve" {
		ts.Fatalf("usage: asked ALLOWED_SIGNERS FILE, after an approval")
	}
	allowed, err := signing.ParseAllowedSigners(args[0], []byte(ts.ReadFile(args[0])))
	ts.Check(err)
	statement, signature, _ := strings.Cut(all[len(all)-1].Detail, "\n")
	a, signer, err := signing.VerifyApproval(fleet.SignedApproval{Statement: []byte(statement), Signature: signature}, allowed, time.Now())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), fmt.Appendf(nil, "signer %s lives %s\n%s\n", signer.Principal, a.Expires.Sub(a.NotBefore), statement), 0o600))
}

// hubSays makes the hub fail from now on.
func hubSays(ts *testscript.TestScript, _ bool, args []string) {
	hubOf(ts).Fail(fleet.WithHint(fleet.Unavailable("%s", args[0]), args[1]))
}

// tamper changes the plan of a cluster on its way: tamper CLUSTER bytes|key|uid|cluster.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	k := fleettest.Key{Cluster: args[0], App: guestbook}
	s := h.seed.Plans[k]
	switch args[1] {
	case "bytes":
		s.Plan = json.RawMessage(strings.Replace(string(s.Plan), `"replicas":3`, `"replicas":9`, 1))
	case "key":
		s = signPlan(seedPlan(args[0]), agentKey())
	case "uid":
		p := seedPlan(args[0])
		p.ClusterUID = "uid-rebuilt"
		s = signPlan(p, agentKey())
	case "cluster":
		s = h.seed.Plans[fleettest.Key{Cluster: "eu", App: guestbook}]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tampered[args[0]] = s
}

// newKey makes SSH keys: newkey FILE COMMENT [PASSPHRASE].
func newKey(ts *testscript.TestScript, _ bool, args []string) {
	phrase := ""
	if len(args) == 3 {
		phrase = args[2]
	}
	ts.Check(ts.Exec("ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-C", args[1], "-f", ts.MkAbs(args[0])))
}

// degrade makes the guestbook on a cluster unwell: degrade CLUSTER.
func degrade(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	found, err := h.Apps(context.Background(), fleet.AppFilter{Clusters: args, Name: guestbook.Name})
	ts.Check(err)
	found[0].Health = fleet.Degraded
	h.SetApp(found[0])
}

// inGit suspends the guestbook on a cluster in Git: ingit CLUSTER.
func inGit(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	found, err := h.Apps(context.Background(), fleet.AppFilter{Clusters: args, Name: guestbook.Name})
	ts.Check(err)
	found[0].Reason = "Suspended"
	h.SetApp(found[0])
}

// refuse makes a cluster refuse approvals and suspensions: refuse CLUSTER [WHY].
func refuse(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuses, h.because = args[0], "the key is not pinned"
	if len(args) > 1 {
		h.because = args[1]
	}
}

// eventually waits until a file has a line with a text: eventually FILE TEXT.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(data), args[1]) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%s never has %q:\n%s", args[0], args[1], data)
		}
	}
}
