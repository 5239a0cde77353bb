package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

const (
	// dialWithin is long, because ten thousand agents may come at once: what a hub
	// that is behind has done for one that gives up is done for nothing, and so it
	// would never catch up.
	dialWithin     = 20 * time.Second
	requestWithin  = 10 * time.Second
	firstReconnect = 500 * time.Millisecond
	mostReconnect  = 30 * time.Second
)

// reconnectDelay grows, and spreads a whole fleet's agents that lost their hub
// at the same moment.
func reconnectDelay(attempts int) time.Duration {
	d := min(firstReconnect<<min(max(attempts-1, 0), 10), mostReconnect)
	return d/2 + rand.N(d)
}

// options are common to both identities: the join token's and the agent's.
// trusted is what a hub's certificate has to be signed by, in PEM, whenever it is
// asked.
func (u *Uplink) options(w way, inbox string, trusted func() string, user nats.Option) ([]nats.Option, error) {
	d := &dialer{}
	if w.web {
		d.proxy = u.cfg.Proxy
	}
	opts := []nats.Option{
		user,
		nats.Name("capstan-agent " + u.cfg.Cluster),
		nats.CustomInboxPrefix(inbox),
		nats.Timeout(dialWithin),
		nats.SetCustomDialer(d),
		nats.SkipHostLookup(),          // a proxy may know names that are not known here
		nats.IgnoreDiscoveredServers(), // the hub is where the token says
		nats.NoEcho(),
	}
	if _, err := poolOf(trusted()); err != nil {
		return nil, err
	}
	if trusted() != "" {
		opts = append(opts, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	} else if w.bare {
		return opts, nil // the client would speak TLS wherever it is told whom to trust
	}
	return append(opts, func(o *nats.Options) error {
		o.RootCAsCB = func() (*x509.CertPool, error) { return poolOf(trusted()) }
		return nil
	}), nil
}

// connect dials as the agent. The connection then keeps itself up for ever,
// also where it is refused: the hub may be back with its memory tomorrow.
func (u *Uplink) connect(ctx context.Context, w way, up, down func()) (*nats.Conn, error) {
	user := nats.UserJWT(
		func() (string, error) { return u.state().JWT, nil }, // a renewed one is used at the next connect
		func(nonce []byte) ([]byte, error) {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.key.Sign(nonce)
		})
	opts, err := u.options(w, wire.Inbox(u.cfg.Cluster), func() string { return u.state().trusted(w) }, user)
	if err != nil {
		return nil, err
	}
	log := u.cfg.Log
	opts = append(opts,
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(-1), // what could not be sent is sent anew, from the outbox
		// Heartbeats ask for an answer already: answering pings beside them was most
		// of what the hub of an idle fleet did.
		nats.PingInterval(0),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if ctx.Err() == nil {
				log.WarnContext(ctx, "the link to the hub is down", "error", err)
			}
			down()
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			log.InfoContext(ctx, "the link to the hub is back")
			up()
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			log.DebugContext(ctx, "can't reach the hub", "error", err)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.WarnContext(ctx, "the link to the hub", errorAttrs(refusedError(err))...)
		}))
	return nats.Connect(w.String(), opts...)
}

// request sends a message and decodes the answer.
func request[M wire.Message](ctx context.Context, nc *nats.Conn, subject string, m wire.Message) (M, error) {
	var none M
	data, err := wire.Encode(m)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return none, fleet.Unavailable("the hub does not answer: %w", err)
	}
	return wire.Decode[M](answer.Data)
}

// enrol trades the join token for a credential of the agent's own.
func (u *Uplink) enrol(ctx context.Context) error {
	t := u.token
	seed, err := u.seedFor(ctx, t.Join)
	if err != nil {
		return err
	}
	joiner, _, err := keyOf(t.Seed)
	if err != nil {
		return fleet.Invalid("join token: its key is damaged")
	}
	key, pub, err := keyOf(seed)
	if err != nil {
		return err
	}
	nc, err := u.dialJoin(t, joiner)
	if err != nil {
		return err
	}
	defer nc.Close()
	proof, err := key.Sign(wire.EnrolProof(t.Join, pub))
	if err != nil {
		return err
	}
	got, err := request[wire.Enrolled](ctx, nc, wire.EnrolSubject(t.Join), wire.Enrol{Key: pub, Proof: proof})
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if got.Cluster != u.cfg.Cluster || got.Instance != t.Instance {
		return fleet.Invalid("enrol: the hub answers for cluster %q and instance %q, the token is for %q and %q",
			got.Cluster, got.Instance, u.cfg.Cluster, t.Instance)
	}
	return u.change(ctx, func(k *Kept) {
		// What this hub wants counts from here on, however it numbers it: it may be
		// another, or have forgotten this cluster. It starts from the labels and holds
		// there are: joining takes none away.
		k.Intent = fleet.Intent{Instance: got.Instance, Labels: k.Intent.Labels, Holds: k.Intent.Holds}
		k.Seed, k.NextSeed, k.NextJoin = seed, "", ""
		k.JWT, k.URLs, k.OldURLs, k.CA, k.Join, k.Instance = got.JWT, t.URLs, nil, t.CA, t.Join, got.Instance
		k.Before = nil
	})
}

// dialJoin connects as the holder of a join token, whichever way works.
func (u *Uplink) dialJoin(t *wire.JoinToken, joiner nkeys.KeyPair) (*nats.Conn, error) {
	user := nats.UserJWT(func() (string, error) { return t.JWT, nil }, joiner.Sign)
	var failed error
	for _, w := range ways(t.URLs) {
		opts, err := u.options(w, wire.JoinInbox(t.Join), func() string { return t.CA }, user)
		if err != nil {
			return nil, err
		}
		nc, err := nats.Connect(w.String(), append(opts, nats.NoReconnect())...)
		if err == nil {
			return nc, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, dialError(failed)
}

// seedFor returns the key to enrol with. One that was enrolled before may be
// revoked, so joining anew takes a new key; it is kept before it is used,
// because the hub's answer may get lost and only the same key may ask again.
func (u *Uplink) seedFor(ctx context.Context, join string) (string, error) {
	k := u.state()
	switch {
	case k.JWT == "":
		return k.Seed, nil
	case k.NextJoin == join:
		return k.NextSeed, nil
	}
	seed, err := newSeed()
	if err != nil {
		return "", err
	}
	return seed, u.change(ctx, func(k *Kept) { k.NextSeed, k.NextJoin = seed, join })
}

// dialError leaves out the address, which may hold user information.
func dialError(err error) error {
	if fleet.Hint(err) != "" {
		return err
	}
	return fleet.WithHint(fleet.Unavailable("can't reach the hub: %w", err),
		"is the hub up, and its NATS port open from here? A token that has expired is refused as well")
}

// refusedError explains a connection as the agent that did not come about.
func refusedError(err error) error {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
		return fleet.WithHint(fleet.Forbidden("the hub refuses this agent's credential: %w", err),
			"the cluster may have been removed there, or was away for too long: join it anew with capstan join")
	}
	return err
}
