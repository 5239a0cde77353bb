package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// options of the embedded server.
func (b *Broker) options() (*server.Options, error) {
	host, port, err := splitListen(b.cfg.Listen)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: "capstan-hub", Host: host, Port: port,
		NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		// Nobody is let in before the hub answers: an agent that connects to a
		// deaf hub would lose its first messages.
		DontListen: true,
		// Short first pings of ten thousand agents that return at once would be
		// all the server does.
		DisableShortFirstPing: true,
		// Longer than agents take between heartbeats, so that only a silent one is
		// asked: each answer costs its connection a stack of 32 KiB for a while.
		PingInterval: pingEvery,
		MaxPingsOut:  2,
		AuthTimeout:  20,
		MaxPayload:   1 << 20,
		// It keeps what it knew of those that went, ten thousand by default, which
		// nobody asks it for.
		MaxClosedClients:   100,
		MaxControlLine:     1024,
		JetStream:          true,
		StoreDir:           filepath.Join(b.cfg.Dir, "jetstream"),
		JetStreamMaxStore:  maxStore,
		JetStreamMaxMemory: maxMemory,
		SyncInterval:       syncEvery,
		TrustedOperators:   []*jwt.OperatorClaims{b.claims.operator},
		AccountResolver:    b.resolver,
		SystemAccount:      b.claims.sys.Subject,
	}
	if o.MaxConn, err = mostConnections(); err != nil {
		return nil, err
	}
	if b.identity, err = openIdentity(b.cfg, b.instance); err != nil {
		return nil, err
	}
	if b.cfg.secure() {
		o.TLSConfig, o.TLSTimeout = b.tls(), handshakeWithin.Seconds()
	}
	return o, b.webSocket(o)
}

// mostConnections leaves files for the store, and for people: agents that come
// again and again while the hub is behind must not take the last descriptor, or
// what they report can't be written.
func mostConnections() (int, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("open files: %w", err)
	}
	return connectionsOf(files.Cur), nil
}

// The descriptors that are kept from agents: a tenth, within bounds.
const (
	fewestKept = 256
	mostKept   = 4096
)

func connectionsOf(files uint64) int {
	kept := min(max(files/10, fewestKept), mostKept)
	return int(min(max(files, 2*kept)-kept, math.MaxInt32))
}

// handshakeWithin bounds a TLS handshake; ten thousand may come at once.
const handshakeWithin = 20 * time.Second

// tls asks for the certificate anew at every handshake, so that one that was
// renewed counts at once, and refuses those that come before the hub answers.
func (b *Broker) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if !b.serving.Load() {
				return nil, errors.New("the hub is starting")
			}
			return b.identity.certificate()
		},
	}
}

// webSocket adds the listener for agents that get out over 443 alone. Unlike
// the other, it listens from the start of the server: where something before
// the hub ends TLS, an agent that comes in too early finds nobody who answers,
// and asks again.
func (b *Broker) webSocket(o *server.Options) error {
	if b.cfg.WSListen == "" {
		return nil
	}
	host, port, err := splitListen(b.cfg.WSListen)
	if err != nil {
		return err
	}
	// The server would only log that it can't.
	var lc net.ListenConfig
	l, err := lc.Listen(b.ctx, "tcp", b.cfg.WSListen)
	if err != nil {
		return fleet.WithHint(fmt.Errorf("listen for agents over WebSocket: %w", err), "name another address with --nats-ws-listen")
	}
	if err := l.Close(); err != nil {
		return err
	}
	o.Websocket = server.WebsocketOpts{Host: host, Port: port, NoTLS: !b.cfg.secure(), SameOrigin: true, HandshakeTimeout: handshakeWithin}
	if b.cfg.secure() {
		o.Websocket.TLSConfig = b.tls()
	}
	return nil
}

// pingEvery is how long a connection may be silent before it is asked.
const pingEvery = 2 * time.Minute

// maxStore is what JetStream may take on disk; set, so that a start does not
// depend on how much is free.
const maxStore = 8 << 30

const (
	maxMemory = 64 << 20 // nothing is kept in memory
	syncEvery = time.Second
)

// startWithin bounds how long the server may take to read its files.
const startWithin = time.Minute

func (b *Broker) start(o *server.Options) error {
	s, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("nats-server: %w", err)
	}
	b.server = s
	s.SetLoggerV2(&serverLog{log: b.cfg.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startWithin) {
		return fmt.Errorf("nats-server: not ready after %s", startWithin)
	}
	return nil
}
