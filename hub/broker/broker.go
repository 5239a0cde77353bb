// Package broker carries messages between the hub and its agents: an embedded
// nats-server with four accounts, the credentials it accepts, and the rules by
// which the hub answers.
//
// Agents live in the account AGENTS, which has no JetStream, and reach nothing
// but the hub's services there. What the hub remembers lies in HUB, where only
// the hub itself connects, from inside the process. OPS is for people who ask
// over NATS how the fleet is, and holds nothing but the hub's answers.
package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// Desk is who answers what agents ask; the broker checks who asks, and the form.
type Desk interface {
	// Enrol returns the cluster that a join token is for. The key's possession
	// is proved already.
	Enrol(ctx context.Context, join, key string) (cluster string, err error)
	// MayRenew fails where the key is not the cluster's.
	MayRenew(ctx context.Context, cluster, key string) error
	Heartbeat(ctx context.Context, cluster string, hb wire.Heartbeat) (wire.HeartbeatAck, error)
	Report(ctx context.Context, cluster string, r wire.Report) error
	Resent(ctx context.Context, cluster string, r wire.Resent) error
	Intent(ctx context.Context, cluster string) (fleet.Intent, error)
	// Lost says that the last connection of a cluster's agent ended.
	Lost(cluster string, at time.Time)
	// Noticed tells of heartbeats where several hubs share the answering.
	Noticed(cluster string, hb wire.Heartbeat)
}

// Config says where the broker keeps its things and listens.
type Config struct {
	Dir       string   // keys, revocations and JetStream's files
	Listen    string   // host:port for agents; port 0: any
	WSListen  string   // the same for agents that come over WebSocket; empty: none can
	Advertise []string // URLs as agents dial them; empty: the addresses listened on
	TLS       TLSMode  // empty: TLSAuto
	CertFile  string   // with KeyFile: the server's certificate; empty: of the hub's own CA
	KeyFile   string
	CAFile    string           // what agents are told to trust, or SystemCA; empty: CertFile
	Servers   []string         // URLs of NATS servers to use instead of an embedded one; then Dir is not used
	Keys      string           // with Servers: directory of the keys that they were configured for
	Now       func() time.Time // by which certificates and retired keys end; nil: time.Now
	// Observe hears how each message of an agent was answered: what it is, one of
	// few words. Dropped hears of those that were not. Nil: nobody counts.
	Observe func(what string, err error)
	Dropped func(what string)
	Log     *slog.Logger
}

// Broker runs the embedded server.
type Broker struct {
	cfg      Config
	instance string
	keys     atomic.Pointer[keyring]
	keysWere keysState // when they were read at the start
	claims   *claims
	resolver *server.MemAccResolver
	server   *server.Server
	identity identity
	serving  atomic.Bool // agents are let in
	ca       string      // of external servers
	process  string      // a random name
	shared   Revoked     // the same

	agents  *nats.Conn // the hub in AGENTS
	store   *nats.Conn // the hub in HUB
	system  *nats.Conn // the hub in SYS
	ops     *nats.Conn // the hub in OPS
	service micro.Service
	gate    *gate
	workers sync.WaitGroup
	subs    []*nats.Subscription
	taken   atomic.Int64 // messages that were taken and not answered yet
	queues  []chan<- waiting
	dropped atomic.Int64 // messages that were not answered, ever
	// tellDropped keeps the log from being what a hub that is behind is busy with.
	tellDropped rate.Sometimes
	ctx         context.Context //nolint:containedctx // ends what is under way when the broker is closed
	cancel      context.CancelFunc

	mu      sync.Mutex
	revoked revocations
}

// Open starts the server without letting anybody in: Serve does.
func Open(cfg Config) (_ *Broker, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, error) {}
	}
	if cfg.Dropped == nil {
		cfg.Dropped = func(string) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, resolver: &server.MemAccResolver{}, gate: newGate(), tellDropped: rate.Sometimes{Interval: time.Second}, process: strings.ToLower(rand.Text())}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if cfg.external() {
		return b, b.openExternal()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if b.instance, err = openInstance(filepath.Join(cfg.Dir, "instance")); err != nil {
		return nil, err
	}
	keys, err := openKeyring(b.keysDir())
	if err != nil {
		return nil, err
	}
	b.keys.Store(keys)
	b.keysWere = keysState{b.keysFiles(), b.keysEnded(b.cfg.Now())}
	if b.revoked, err = readRevocations(b.revokedPath()); err != nil {
		return nil, err
	}
	b.revoked.drop(time.Now().Add(-agentLife))
	if b.claims, err = newClaims(keys, b.revoked, b.hubFrom(), b.cfg.Now()); err != nil {
		return nil, err
	}
	if err := b.publish(); err != nil {
		return nil, err
	}
	opts, err := b.options()
	if err != nil {
		return nil, err
	}
	if err := b.start(opts); err != nil {
		return nil, err
	}
	return b, b.connect()
}

// Instance is the hub's id, made at the first start in this directory.
func (b *Broker) Instance() string { return b.instance }

// JetStream is the account that only the hub reaches.
func (b *Broker) JetStream() (jetstream.JetStream, error) { return jetstream.New(b.store) }

// Address is where agents dial, and what they trust there.
func (b *Broker) Address() (urls []string, ca string) {
	if b.cfg.external() {
		if len(b.cfg.Advertise) > 0 {
			return b.cfg.Advertise, b.ca
		}
		return b.cfg.Servers, b.ca
	}
	if len(b.cfg.Advertise) > 0 {
		return b.cfg.Advertise, b.identity.trust()
	}
	if a, ok := b.server.Addr().(*net.TCPAddr); ok && a != nil {
		scheme := "nats"
		if b.cfg.secure() {
			scheme = "tls"
		}
		urls = append(urls, scheme+"://"+a.String())
		if b.cfg.WSListen != "" {
			urls = append(urls, b.WebSocketURL())
		}
	}
	return urls, b.identity.trust()
}

// WebSocketURL is where the WebSocket listener is, if there is one.
func (b *Broker) WebSocketURL() string {
	if b.cfg.external() {
		return ""
	}
	return b.server.WebsocketURL()
}

// Secure tells whether agents connect over TLS.
func (b *Broker) Secure() bool {
	if b.cfg.external() {
		urls, _ := b.Address()
		return !slices.ContainsFunc(urls, func(u string) bool { return strings.HasPrefix(u, "nats:") || strings.HasPrefix(u, "ws:") })
	}
	return b.cfg.secure()
}

// ring are the keys that count now.
func (b *Broker) ring() *keyring { return b.keys.Load() }

// hubFrom is how the hub itself connects.
func (b *Broker) hubFrom() string {
	if b.cfg.external() {
		return jwt.ConnectionTypeStandard
	}
	return jwt.ConnectionTypeInProcess
}

func (b *Broker) revokedPath() string { return filepath.Join(b.cfg.Dir, "revoked.json") }

// publish hands the accounts' claims to the server.
func (b *Broker) publish() error {
	for _, c := range b.claims.accounts() {
		token, err := c.Encode(b.ring().operator)
		if err != nil {
			return err
		}
		if err := b.resolver.Store(c.Subject, token); err != nil {
			return err
		}
	}
	return nil
}

// Serve answers agents through the desk, and only then lets them in.
func (b *Broker) Serve(desk Desk) error {
	if err := b.watchPresence(desk); err != nil {
		return err
	}
	if err := b.subscribe(desk); err != nil {
		return err
	}
	b.serving.Store(true)
	b.workers.Go(func() { b.watchKeys(b.keysWere) })
	if b.cfg.external() {
		b.cfg.Log.Info("answering agents", "servers", b.cfg.Servers)
		return b.Affirm(b.ctx)
	}
	listening := make(chan struct{})
	go b.server.AcceptLoop(listening)
	<-listening
	if b.server.Addr() == nil {
		return fleet.WithHint(fmt.Errorf("can't listen for agents on %s", b.cfg.Listen), "is the address in use already?")
	}
	urls, _ := b.Address()
	b.cfg.Log.Info("listening for agents", "listen", b.server.Addr().String(), "urls", urls, "tls", b.cfg.secure())
	return nil
}

// Revive opens the embedded server's store anew, after a write failed for want
// of room: it takes none to that stream any more.
func (b *Broker) Revive() error {
	if err := b.server.ShutdownJetStream(); err != nil {
		return fmt.Errorf("nats-server: %w", err)
	}
	// As it was begun with: what the server says of it itself has a deeper directory.
	cfg := server.JetStreamConfig{StoreDir: filepath.Join(b.cfg.Dir, "jetstream"), MaxStore: maxStore, MaxMemory: maxMemory, SyncInterval: syncEvery}
	if err := b.server.EnableJetStream(&cfg); err != nil {
		return fmt.Errorf("nats-server: %w", err)
	}
	return nil
}

// Close lets agents go; what they asked meanwhile they ask again.
func (b *Broker) Close() {
	if b.system != nil {
		b.system.Close() // first: that the hub lets agents go is no news of theirs
	}
	b.cancel()
	for _, c := range []*nats.Conn{b.agents, b.ops} {
		if c != nil {
			c.Close()
		}
	}
	b.workers.Wait()
	if b.store != nil {
		b.store.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}

func openInstance(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := strings.ToLower(rand.Text())
		return id, WriteSecret(path, []byte(id+"\n"))
	}
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if fleet.ValidateName("hub instance", id) != nil {
		return "", fmt.Errorf("%s is damaged", path)
	}
	return id, nil
}

func splitListen(listen string) (string, int, error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fleet.Invalid("NATS address %q: %w", listen, err)
	}
	port, err := strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fleet.Invalid("NATS address %q: port %q is not one", listen, p)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}
