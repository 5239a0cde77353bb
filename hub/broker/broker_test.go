package broker_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memo is a desk that takes everything and notes it.
type memo struct {
	mu       sync.Mutex
	joins    map[string]string // join -> cluster
	used     map[string]string // join -> key
	statuses map[string]string // cluster/app -> message
	beats    map[string]int
	intents  map[string]fleet.Intent
	keys     map[string]string // cluster -> key
	lost     []string
}

func newMemo() *memo {
	return &memo{joins: map[string]string{}, used: map[string]string{}, statuses: map[string]string{}, beats: map[string]int{}, intents: map[string]fleet.Intent{}, keys: map[string]string{}}
}

var _ broker.Desk = (*memo)(nil)

func (m *memo) Enrol(_ context.Context, join, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.joins[join] == "" || m.used[join] != "" && m.used[join] != key {
		return "", fleet.Forbidden("join token: it has been used")
	}
	m.used[join], m.keys[m.joins[join]] = key, key
	return m.joins[join], nil
}

func (m *memo) MayRenew(_ context.Context, cluster, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[cluster] != key {
		return fleet.Forbidden("another key")
	}
	return nil
}

func (m *memo) Heartbeat(_ context.Context, cluster string, _ wire.Heartbeat) (wire.HeartbeatAck, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beats[cluster]++
	return wire.HeartbeatAck{Instance: "hub1"}, nil
}

func (m *memo) Report(_ context.Context, cluster string, r wire.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.App != nil {
		m.statuses[cluster+"/"+r.Name().String()] = r.App.Message
	}
	return nil
}

func (m *memo) Noticed(string, wire.Heartbeat) {}

func (m *memo) Resent(context.Context, string, wire.Resent) error { return nil }

func (m *memo) Intent(_ context.Context, cluster string) (fleet.Intent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.intents[cluster], nil
}

func (m *memo) Lost(cluster string, _ time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = append(m.lost, cluster)
}

func (m *memo) status(of string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.statuses[of]
}

// bench is a broker with a desk and what an agent needs to come in.
type bench struct {
	*broker.Broker
	desk *memo
	dir  string
	said *transcript

	passed atomic.Int64 // nanoseconds that certificates and keys believe have passed
}

// transcript is a log that can be looked into while it is written.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, dir string) *bench {
	t.Helper()
	said := &transcript{}
	log := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	b := &bench{desk: newMemo(), dir: dir, said: said}
	var err error
	b.Broker, err = broker.Open(broker.Config{Dir: dir, Listen: "127.0.0.1:0", Log: log, Now: func() time.Time {
		return time.Now().Add(time.Duration(b.passed.Load()))
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func serve(t *testing.T) *bench {
	t.Helper()
	b := start(t, t.TempDir())
	b.desk.intents["c1"] = fleet.Intent{Instance: "hub1", Revision: 1, Labels: map[string]string{"of": "c1"}}
	b.desk.intents["c2"] = fleet.Intent{Instance: "hub1", Revision: 1, Labels: map[string]string{"of": "c2"}}
	if err := b.Serve(b.desk); err != nil {
		t.Fatal(err)
	}
	return b
}

// url is where agents dial.
func (b *bench) url(t *testing.T) string {
	t.Helper()
	urls, _ := b.Address()
	if len(urls) != 1 {
		t.Fatalf("urls: %v", urls)
	}
	return urls[0]
}

// token makes a join for a cluster and connects with its key.
func (b *bench) token(t *testing.T, join, cluster string, until time.Time) (*nats.Conn, error) {
	t.Helper()
	b.desk.mu.Lock()
	b.desk.joins[join] = cluster
	b.desk.mu.Unlock()
	jwt, seed, err := b.JoinUser(join, until)
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(b.url(t), user(jwt, kp), nats.CustomInboxPrefix(wire.JoinInbox(join)), nats.NoReconnect(), quiet)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func user(jwt string, kp nkeys.KeyPair) nats.Option {
	return nats.UserJWT(func() (string, error) { return jwt, nil }, kp.Sign)
}

// quiet keeps refusals off the test's output.
var quiet = nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})

func newKey(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return kp, pub
}

func enrol(t *testing.T, nc *nats.Conn, join string, kp nkeys.KeyPair) (wire.Enrolled, error) {
	t.Helper()
	pub, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	proof, err := kp.Sign(wire.EnrolProof(join, pub))
	if err != nil {
		t.Fatal(err)
	}
	return ask[wire.Enrolled](t, nc, wire.EnrolSubject(join), wire.Enrol{Key: pub, Proof: proof})
}

func ask[M wire.Message](t *testing.T, nc *nats.Conn, subject string, m wire.Message) (M, error) {
	t.Helper()
	var none M
	answer, err := nc.Request(subject, encode(t, m), 5*time.Second)
	if err != nil {
		return none, err
	}
	return wire.Decode[M](answer.Data)
}

func encode(t *testing.T, m wire.Message) []byte {
	t.Helper()
	data, err := wire.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// agent enrols a cluster and connects as its agent.
func (b *bench) agent(t *testing.T, cluster string, opts ...nats.Option) (*nats.Conn, string) {
	t.Helper()
	join := "join-" + cluster
	nc, err := b.token(t, join, cluster, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kp, pub := newKey(t)
	got, err := enrol(t, nc, join, kp)
	if err != nil || got.Cluster != cluster {
		t.Fatal(got, err)
	}
	opts = append([]nats.Option{user(got.JWT, kp), nats.CustomInboxPrefix(wire.Inbox(cluster)), quiet}, opts...)
	a, err := nats.Connect(b.url(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a, pub
}

func status(message string) wire.Report {
	return wire.Report{Epoch: 1, Seq: 1, App: &fleet.AppStatus{Namespace: "shop", App: "web", Sync: fleet.Synced, Health: fleet.Healthy, Message: message}}
}

var web = fleet.AppName{Namespace: "shop", Name: "web"}

func TestAnAgentEnrolsAndIsServed(t *testing.T) {
	b := serve(t)
	a, key := b.agent(t, "c1")
	if _, err := ask[wire.Ack](t, a, wire.StatusSubject("c1", web), status("well")); err != nil {
		t.Fatal(err)
	}
	if got := b.desk.status("c1/shop/web"); got != "well" {
		t.Errorf("the desk has %q", got)
	}
	in, err := ask[wire.Intent](t, a, wire.IntentGetSubject("c1"), wire.IntentGet{})
	if err != nil || in.Intent.Labels["of"] != "c1" {
		t.Errorf("intent: %+v, %v", in, err)
	}
	hb, err := ask[wire.HeartbeatAck](t, a, wire.HeartbeatSubject("c1"), wire.Heartbeat{Epoch: 1, Cluster: fleet.ClusterReport{Interval: time.Second}})
	if err != nil || hb.Instance != "hub1" {
		t.Errorf("heartbeat: %+v, %v", hb, err)
	}
	if _, err := ask[wire.Renewed](t, a, wire.RenewSubject("c1"), wire.Renew{Key: key}); err != nil {
		t.Errorf("renew: %v", err)
	}
	_, other := newKey(t)
	if _, err := ask[wire.Renewed](t, a, wire.RenewSubject("c1"), wire.Renew{Key: other}); err == nil {
		t.Error("a credential was given for another key")
	}
}

func TestEnrolmentNeedsTheKeyItself(t *testing.T) {
	b := serve(t)
	nc, err := b.token(t, "j1", "c1", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kp, pub := newKey(t)
	thief, _ := newKey(t)
	stolen, err := thief.Sign(wire.EnrolProof("j1", pub))
	if err != nil {
		t.Fatal(err)
	}
	other, err := kp.Sign(wire.EnrolProof("j2", pub))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]wire.Enrol{
		"another's signature":  {Key: pub, Proof: stolen},
		"for another join":     {Key: pub, Proof: other},
		"a key that is no key": {Key: "U" + pub[2:], Proof: stolen},
	} {
		if got, err := ask[wire.Enrolled](t, nc, wire.EnrolSubject("j1"), r); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if _, err := enrol(t, nc, "j1", kp); err != nil {
		t.Errorf("the holder of the key: %v", err)
	}
}

func TestAJoinTokenEnrolsOneKey(t *testing.T) {
	b := serve(t)
	nc, err := b.token(t, "j1", "c1", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := newKey(t)
	second, _ := newKey(t)
	if _, err := enrol(t, nc, "j1", first); err != nil {
		t.Fatal(err)
	}
	if _, err := enrol(t, nc, "j1", first); err != nil {
		t.Errorf("the same key, whose answer may have got lost: %v", err)
	}
	if _, err := enrol(t, nc, "j1", second); err == nil {
		t.Error("another key enrolled with a used token")
	}
}

func TestAnExpiredJoinTokenIsCutAndRefused(t *testing.T) {
	b := serve(t)
	nc, err := b.token(t, "j1", "c1", time.Now().Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is cut", nc.IsClosed)
	eventually(t, "the credential is refused", func() bool { // it counts in whole seconds
		again, err := nc.Opts.Connect()
		if err == nil {
			again.Close()
		}
		return err != nil
	})
}

func TestRevocationCutsTheLiveConnection(t *testing.T) {
	b := serve(t)
	a, key := b.agent(t, "c1", nats.NoReconnect())
	other, _ := b.agent(t, "c2", nats.NoReconnect())
	if err := b.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c1 is cut", a.IsClosed)
	if _, err := ask[wire.Ack](t, other, wire.StatusSubject("c2", web), status("well")); err != nil {
		t.Errorf("c2 was hit as well: %v", err)
	}
	info, err := os.Stat(filepath.Join(b.dir, "revoked.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("revocations: %v, %v", info, err)
	}
}

func TestARevocationOutlivesTheHub(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	if err := b.Serve(b.desk); err != nil {
		t.Fatal(err)
	}
	nc, err := b.token(t, "j1", "c1", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kp, pub := newKey(t)
	old, err := enrol(t, nc, "j1", kp)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(t.Context(), pub); err != nil {
		t.Fatal(err)
	}
	again, err := enrol(t, nc, "j1", kp) // the desk here has no memory of the removal
	if err != nil {
		t.Fatal(err)
	}
	instance := b.Instance()
	b.Close()

	b = start(t, dir)
	if err := b.Serve(b.desk); err != nil {
		t.Fatal(err)
	}
	if b.Instance() != instance {
		t.Errorf("the instance changed from %s to %s", instance, b.Instance())
	}
	if c, err := nats.Connect(b.url(t), user(old.JWT, kp), nats.NoReconnect(), quiet); err == nil {
		c.Close()
		t.Error("the revoked credential connects after a restart")
	}
	c, err := nats.Connect(b.url(t), user(again.JWT, kp), nats.NoReconnect(), quiet)
	if err != nil {
		t.Fatalf("the credential given after the revocation: %v", err)
	}
	c.Close()
}

func TestTheKeysAreTheOwnersAlone(t *testing.T) {
	b := start(t, t.TempDir())
	files, err := filepath.Glob(filepath.Join(b.dir, "keys", "*.nk"))
	if err != nil || len(files) != 10 {
		t.Fatalf("keys: %v, %v", files, err)
	}
	for _, f := range append(files, filepath.Join(b.dir, "instance")) {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}

func TestNobodyIsLetInBeforeTheHubAnswers(t *testing.T) {
	b := start(t, t.TempDir())
	if urls, _ := b.Address(); len(urls) != 0 {
		t.Errorf("it listens already: %v", urls)
	}
}

func TestAnAddressInUseIsSaid(t *testing.T) {
	b := serve(t)
	urls, _ := b.Address()
	second, err := broker.Open(broker.Config{Dir: t.TempDir(), Listen: urls[0][len("nats://"):]})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.Serve(newMemo()); err == nil || fleet.Hint(err) == "" {
		t.Errorf("got %v, want an error with a hint", err)
	}
}

func TestTheHubAsksAnAgent(t *testing.T) {
	b := serve(t)
	if _, err := b.Ask(t.Context(), "c1", wire.Ask{What: wire.AskTree, App: web}); err == nil || fleet.Hint(err) == "" {
		t.Errorf("nobody there: got %v", err)
	}
	a, _ := b.agent(t, "c1")
	if _, err := a.Subscribe(wire.AskSubject("c1"), func(m *nats.Msg) {
		if err := m.Respond(encode(t, wire.Part{ETag: "e", Total: 2, Data: []byte("[]")})); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	p, err := b.Ask(t.Context(), "c1", wire.Ask{What: wire.AskTree, App: web})
	if err != nil || string(p.Data) != "[]" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestPushesReachTheAgentsTheyAreFor(t *testing.T) {
	b := serve(t)
	got := make(chan string, 10)
	for _, cluster := range []string{"c1", "c2"} {
		a, _ := b.agent(t, cluster)
		for _, subject := range []string{wire.IntentSubject(cluster), wire.GitSubject} {
			if _, err := a.Subscribe(subject, func(m *nats.Msg) { got <- cluster + " " + m.Subject }); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.PushIntent("c2", fleet.Intent{Instance: "hub1", Revision: 2}); err != nil {
		t.Fatal(err)
	}
	if first := <-got; first != "c2 down.c2.intent" {
		t.Errorf("got %s", first)
	}
	if err := b.GitPushed(fleet.Push{RepoURL: "https://git.example.com/fleet.git"}); err != nil {
		t.Fatal(err)
	}
	heard := map[string]bool{<-got: true, <-got: true}
	if !heard["c1 all.git"] || !heard["c2 all.git"] {
		t.Errorf("got %v", heard)
	}
}

// eventually waits for a condition that the server brings about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
