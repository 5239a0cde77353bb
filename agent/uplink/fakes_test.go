package uplink_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/agent/uplink"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = fleet.AppName{Namespace: "shop", Name: "web"}

func status(name, message string) fleet.AppStatus {
	return fleet.AppStatus{Namespace: "shop", App: name, Sync: fleet.Synced, Health: fleet.Healthy, Message: message}
}

// vault keeps in memory, with versions as a Secret has them.
type vault struct {
	mu      sync.Mutex
	kept    uplink.Kept
	version int
	seen    int // by the process that uses it
	down    bool
}

var _ uplink.Vault = (*vault)(nil)

func (v *vault) Load(context.Context) (uplink.Kept, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = v.version
	return v.kept, nil
}

func (v *vault) Save(_ context.Context, k uplink.Kept) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.down {
		return errors.New("the API server is away")
	}
	if v.seen != v.version {
		return fleet.Conflict("somebody else wrote")
	}
	v.version++
	v.seen, v.kept = v.version, k
	return nil
}

func (v *vault) now() uplink.Kept {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.kept
}

// spoke is an agent without a cluster.
type spoke struct {
	mu       sync.Mutex
	statuses []fleet.AppStatus
	onStatus func()
	fail     int // so many TakeIntent fail
	taken    chan fleet.Intent
	pushed   chan fleet.Push
	history  []fleet.HistoryEntry
	sources  []fleet.SourceStatus
}

var _ uplink.Spoke = (*spoke)(nil)

func newSpoke(statuses ...fleet.AppStatus) *spoke {
	return &spoke{statuses: statuses, taken: make(chan fleet.Intent, 100), pushed: make(chan fleet.Push, 100)}
}

func (s *spoke) Report() fleet.ClusterReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fleet.ClusterReport{UID: "u1", AgentVersion: "v1", Assignable: []string{"env"}, Sources: s.sources}
}

func (s *spoke) Statuses() []fleet.AppStatus {
	s.mu.Lock()
	all, on := s.statuses, s.onStatus
	s.mu.Unlock()
	if on != nil {
		on()
	}
	return all
}

func (s *spoke) TakeIntent(_ context.Context, in fleet.Intent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return errors.New("not now")
	}
	s.taken <- in
	return nil
}

func (s *spoke) Plan(app fleet.AppName) (fleet.SignedPlan, error) {
	return fleet.SignedPlan{}, fleet.NotFound("nothing waits for %s", app)
}

func (s *spoke) History(fleet.AppName) ([]fleet.HistoryEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history, nil
}

func (s *spoke) Tree(fleet.AppName) ([]fleet.Object, error) { return nil, nil }
func (s *spoke) GitPushed(p fleet.Push)                     { s.pushed <- p }

// fakeHub is the other end, by the wire's words alone. It has no accounts: who
// may say what is the broker's matter.
type fakeHub struct {
	t   *testing.T
	srv *server.Server
	nc  *nats.Conn
	key nkeys.KeyPair

	options func(*server.Options) // nil: as they are
	urls    func() []string       // nil: where the server says it is
	ca      string

	mu       sync.Mutex
	port     int
	instance string
	life     time.Duration
	enrols   []string
	renewals int
	epoch    uint64
	lastSeq  uint64
	intent   fleet.Intent
	refuse   map[string]error // by app
	statuses map[string]string
	reports  []string
	resent   int
	sources  []fleet.SourceStatus // of the last heartbeat
	interval time.Duration        // the same
	every    time.Duration        // what the hub asks for
	link     *wire.Link           // where it says it is; nil: as an older hub, nothing
	stamp    string               // what it says of that with a heartbeat; empty: what is true
	links    int                  // how often that was asked for
	beats    int

	mute       bool // nothing is answered
	unanswered int
}

func newHub(t *testing.T) *fakeHub {
	t.Helper()
	return newHubWith(t, func(*fakeHub) {})
}

func newHubWith(t *testing.T, set func(*fakeHub)) *fakeHub {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{t: t, key: kp, port: server.RANDOM_PORT, instance: "hub1", life: time.Hour, refuse: map[string]error{}, statuses: map[string]string{}}
	set(h)
	h.up()
	t.Cleanup(h.down)
	return h
}

func (h *fakeHub) up() {
	h.t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: h.port, NoLog: true, NoSigs: true}
	if h.options != nil {
		h.options(o)
	}
	srv, err := server.NewServer(o)
	if err != nil {
		h.t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		h.t.Fatal("the server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		h.t.Fatal(err)
	}
	h.srv, h.nc = srv, nc
	h.port = srv.Addr().(*net.TCPAddr).Port
	for subject, serve := range map[string]nats.MsgHandler{wire.AllUp: h.serve, wire.AllEnrol: h.enrol} {
		if _, err := nc.Subscribe(subject, serve); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHub) down() {
	h.nc.Close()
	h.srv.Shutdown()
	h.srv.WaitForShutdown()
}

func (h *fakeHub) credential(key string) string {
	u := jwt.NewUserClaims(key)
	u.Expires = time.Now().Add(h.life).Unix()
	token, err := u.Encode(h.key)
	if err != nil {
		h.t.Error(err)
	}
	return token
}

func (h *fakeHub) enrol(m *nats.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := wire.Decode[wire.Enrol](m.Data)
	if err != nil {
		h.t.Error(err)
		return
	}
	join, err := wire.ParseEnrol(m.Subject)
	if err != nil || !wire.AnswersWithin(m.Reply, wire.JoinInbox(join)) {
		h.t.Errorf("enrol on %s with reply %s", m.Subject, m.Reply)
	}
	key, err := nkeys.FromPublicKey(r.Key)
	if err != nil || key.Verify(wire.EnrolProof(join, r.Key), r.Proof) != nil {
		h.t.Error("the proof is not good")
	}
	h.enrols = append(h.enrols, r.Key)
	if err := h.refuse["enrol"]; err != nil {
		h.answer(m, wire.Fail(err))
		return
	}
	h.answer(m, wire.Enrolled{JWT: h.credential(r.Key), Cluster: "dev", Instance: h.instance})
}

func (h *fakeHub) serve(m *nats.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	up, err := wire.ParseUp(m.Subject)
	if err != nil || up.Cluster != "dev" || !wire.AnswersWithin(m.Reply, wire.Inbox("dev")) {
		h.t.Errorf("%s with reply %s: %v", m.Subject, m.Reply, err)
		return
	}
	if h.mute {
		h.unanswered++
		if up.Verb == wire.VerbHeartbeat {
			h.beats++
		}
		return
	}
	switch up.Verb {
	case wire.VerbHeartbeat:
		hb, err := wire.Decode[wire.Heartbeat](m.Data)
		if err != nil || hb.Cluster.UID != "u1" || hb.Cluster.AgentKey == "" {
			h.t.Errorf("heartbeat %+v: %v", hb, err)
		}
		h.beats++
		h.sources, h.interval = hb.Cluster.Sources, hb.Cluster.Interval
		signer, err := h.key.PublicKey()
		if err != nil {
			h.t.Error(err)
		}
		ack := wire.HeartbeatAck{Instance: h.instance, Revision: h.intent.Revision, Epoch: h.epoch, Issuer: signer, Every: h.every}
		if h.link != nil {
			ack.Link = cmp.Or(h.stamp, h.link.Stamp())
		}
		if hb.Epoch > h.epoch {
			h.epoch, h.lastSeq = hb.Epoch, 0
		}
		h.answer(m, ack)
	case wire.VerbStatus:
		h.answer(m, h.report(m.Data))
	case wire.VerbResent:
		h.resent++
		h.answer(m, wire.Ack{})
	case wire.VerbIntent:
		in := h.intent
		in.Instance = h.instance
		h.answer(m, wire.Intent{Intent: in})
	case wire.VerbLink:
		h.links++
		h.answer(m, *h.link)
	case wire.VerbRenew:
		r, err := wire.Decode[wire.Renew](m.Data)
		if err != nil {
			h.t.Error(err)
		}
		h.renewals++
		h.life = time.Hour
		h.answer(m, wire.Renewed{JWT: h.credential(r.Key)})
	}
}

func (h *fakeHub) report(data []byte) wire.Message {
	r, err := wire.Decode[wire.Report](data)
	if err != nil {
		h.t.Error(err)
	}
	name := r.Name().Name
	if r.Epoch != h.epoch || r.Seq <= h.lastSeq {
		return wire.Fail(fleet.Conflict("old"))
	}
	h.lastSeq = r.Seq
	if err := h.refuse[name]; err != nil {
		return wire.Fail(err)
	}
	if r.Gone != nil {
		delete(h.statuses, name)
		h.reports = append(h.reports, name+" gone")
		return wire.Ack{}
	}
	h.statuses[name] = r.App.Message
	h.reports = append(h.reports, name+" "+r.App.Message)
	return wire.Ack{}
}

func (h *fakeHub) answer(m *nats.Msg, a wire.Message) {
	data, err := wire.Encode(a)
	if err == nil {
		err = m.Respond(data)
	}
	// What was asked just before the hub went down stays unanswered.
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		h.t.Error(err)
	}
}

// set changes the hub's state.
func (h *fakeHub) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// is waits until the hub's state fulfils a condition.
func (h *fakeHub) is(what string, fulfilled func() bool) {
	h.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		h.mu.Lock()
		ok := fulfilled()
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.t.Fatalf("never: %s; reports %v, epoch %d, beats %d", what, h.reports, h.epoch, h.beats)
		}
	}
}

func (h *fakeHub) push(in fleet.Intent) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.Instance == h.instance {
		h.intent = in
	}
	h.send(wire.IntentSubject("dev"), wire.Intent{Intent: in})
}

func (h *fakeHub) send(subject string, m wire.Message) {
	h.t.Helper()
	data, err := wire.Encode(m)
	if err == nil {
		err = h.nc.Publish(subject, data)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHub) token(join string) string {
	h.t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		h.t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		h.t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		h.t.Fatal(err)
	}
	urls := []string{h.srv.ClientURL()}
	if h.urls != nil {
		urls = h.urls()
	}
	s, err := wire.JoinToken{URLs: urls, CA: h.ca, Cluster: "dev", Join: join, Instance: h.instance, JWT: h.credential(pub), Seed: string(seed)}.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// run runs an uplink until stop is called, which returns Run's error.
func run(t *testing.T, token string, s uplink.Spoke, v uplink.Vault) (*uplink.Uplink, func() error) {
	t.Helper()
	u := open(t, token, s, v)
	return u, begin(t, u)
}

func open(t *testing.T, token string, s uplink.Spoke, v uplink.Vault) *uplink.Uplink {
	t.Helper()
	return openWith(t, uplink.Config{Token: token}, s, v)
}

func openWith(t *testing.T, cfg uplink.Config, s uplink.Spoke, v uplink.Vault) *uplink.Uplink {
	t.Helper()
	cfg.Cluster, cfg.HeartbeatEvery = "dev", 30*time.Millisecond
	if cfg.Log == nil {
		cfg.Log = slog.New(secretsGuard{t: t})
	}
	u, err := uplink.New(cfg, s, v)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func begin(t *testing.T, u *uplink.Uplink) func() error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	ended := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := ended(); err != nil && !errors.Is(err, uplink.ErrSuperseded) {
			t.Errorf("Run ended with %v", err)
		}
	})
	return ended
}

// secretsGuard fails a test whose log holds a seed or a credential.
type secretsGuard struct {
	t    *testing.T
	said chan<- string // hears of every line; nil: nobody does
}

func (g secretsGuard) Enabled(context.Context, slog.Level) bool { return true }
func (g secretsGuard) WithAttrs([]slog.Attr) slog.Handler       { return g }
func (g secretsGuard) WithGroup(string) slog.Handler            { return g }
func (g secretsGuard) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	if strings.Contains(line, "SU") || strings.Contains(line, "eyJ") {
		g.t.Errorf("a secret is in the log: %s", line)
	}
	select {
	case g.said <- line:
	default:
	}
	return nil
}

func take(t *testing.T, s *spoke) fleet.Intent {
	t.Helper()
	select {
	case in := <-s.taken:
		return in
	case <-time.After(20 * time.Second):
		t.Fatal("no intent came")
		return fleet.Intent{}
	}
}
