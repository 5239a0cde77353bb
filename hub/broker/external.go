package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Revoked is where hubs that share NATS servers keep what any of them revoked.
type Revoked interface {
	// Add notes that a key's credentials are worthless up to a second (Unix).
	Add(ctx context.Context, key string, at int64) error
	All(ctx context.Context) (map[string]int64, error)
}

// external tells whether the servers are somebody else's processes.
func (c Config) external() bool { return len(c.Servers) > 0 }

func (c Config) validateExternal() error {
	if c.Keys == "" {
		return fleet.WithHint(fleet.Invalid("NATS servers are named, and no keys"), "name the directory that capstan-hub nats-config made with --nats-keys")
	}
	for _, raw := range append(append([]string{}, c.Servers...), c.Advertise...) {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.User != nil {
			return notAURL(raw)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return notAURL(raw)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" || c.WSListen != "" {
		return fleet.WithHint(fleet.Invalid("a certificate or an address is given, and the NATS servers are elsewhere"), "configure it there: see capstan-hub nats-config --help")
	}
	return nil
}

// openExternal reads the keys and connects. Nothing is made here: keys that the
// servers do not know would let nobody in.
func (b *Broker) openExternal() (err error) {
	for _, name := range []string{"instance", "operator.nk", opsRoleFile} {
		if _, err := os.Stat(filepath.Join(b.cfg.Keys, name)); errors.Is(err, fs.ErrNotExist) {
			return fleet.WithHint(fleet.Invalid("%s holds no keys of a hub: %s is not there", b.cfg.Keys, name),
				"make them, and the servers' configuration, with: capstan-hub nats-config --keys "+b.cfg.Keys)
		}
	}
	if b.instance, err = openInstance(filepath.Join(b.cfg.Keys, "instance")); err != nil {
		return err
	}
	files := b.keysFiles()
	keys, err := readKeyring(b.cfg.Keys)
	if err != nil {
		return err
	}
	b.keys.Store(keys)
	b.keysWere = keysState{files, b.keysEnded(b.cfg.Now())}
	b.revoked = revocations{}
	if b.claims, err = newClaims(b.ring(), b.revoked, b.hubFrom(), b.cfg.Now()); err != nil {
		return err
	}
	if b.ca, err = readCA(b.cfg.CAFile); err != nil {
		return err
	}
	return b.connect()
}

func readCA(file string) (string, error) {
	if file == "" || file == SystemCA {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("CA of the NATS servers: %w", err)
	}
	return string(text), nil
}

// dialExternal are the options of the hub's connections to the servers.
func (b *Broker) dialExternal() []nats.Option {
	opts := []nats.Option{
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		// What can't be sent now is not to be sent when nobody waits for it any more.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.cfg.Log.Warn("the connection to NATS is down", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.cfg.Log.Info("the connection to NATS is back", "server", nc.ConnectedServerName())
		}),
	}
	if b.ca != "" {
		opts = append(opts, nats.RootCAs(b.cfg.CAFile))
	}
	return opts
}

// KeepRevocations has a broker with external servers keep its revocations with
// the other hubs' ones.
func (b *Broker) KeepRevocations(r Revoked) { b.shared = r }

// Process names this process among the hubs.
func (b *Broker) Process() string { return b.process }

// Connected tells whether the hub reaches its servers.
func (b *Broker) Connected() bool { return b.store.IsConnected() && b.agents.IsConnected() }

const (
	claimsWithin = 5 * time.Second
	// mostRounds bounds how often what other hubs revoke meanwhile is added.
	mostRounds = 10
)

// revokeShared notes a revocation where all hubs see it, and tells the servers.
func (b *Broker) revokeShared(ctx context.Context, key string) error {
	now := time.Now().Unix()
	if err := b.shared.Add(ctx, key, now); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return b.announce(ctx)
}

// announce tells the servers all revocations. Another hub may do the same with
// what it has seen, so it is looked again afterwards: whoever looks last has
// seen what all have written.
func (b *Broker) announce(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range mostRounds {
		all, err := b.shared.All(ctx)
		if err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
		if err := b.sendClaims(ctx, all); err != nil {
			return err
		}
		after, err := b.shared.All(ctx)
		if err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
		if maps.Equal(all, after) {
			return nil
		}
	}
	return fleet.Unavailable("revocations: others revoke all the time")
}

// sendClaims gives the servers the claims of AGENTS and OPS. They cut the connections
// that are revoked. b.mu is held.
func (b *Broker) sendClaims(ctx context.Context, all map[string]int64) error {
	b.revoked = maps.Clone(all)
	b.revoked.drop(time.Now().Add(-agentLife))
	c, err := newClaims(b.ring(), b.revoked, b.hubFrom(), b.cfg.Now())
	if err != nil {
		return err
	}
	known, err := b.lookup(ctx, c.ops)
	if err != nil {
		return err
	}
	keepRevoked(c.ops, known, b.cfg.Now())
	for _, account := range []*jwt.AccountClaims{c.agents, c.ops} {
		if err := b.update(ctx, account); err != nil {
			return err
		}
	}
	return nil
}

// keepRevoked has claims say of OPS what the servers know to be revoked as well:
// another hub may have been told, and this one not.
func keepRevoked(claims, known *jwt.AccountClaims, now time.Time) {
	for key, at := range known.Revocations {
		if at > claims.Revocations[key] && at >= now.Add(-maxOpsLife).Unix() {
			claims.RevokeAt(key, time.Unix(at, 0))
		}
	}
}

// update gives the servers one account's claims; they may not know it yet.
func (b *Broker) update(ctx context.Context, account *jwt.AccountClaims) error {
	token, err := account.Encode(b.ring().operator)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, claimsWithin)
	defer cancel()
	answer, err := b.system.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(token))
	if err != nil {
		return fleet.Unavailable("the NATS servers do not take what counts in account %s: %w", account.Name, err)
	}
	var said struct {
		Data *struct{ Code int } `json:"data"`
	}
	if err := json.Unmarshal(answer.Data, &said); err != nil || said.Data == nil || said.Data.Code != 200 {
		return fleet.Unavailable("the NATS servers refuse what counts in account %s: %.200s", account.Name, answer.Data)
	}
	return nil
}

// Affirm gives the servers all revocations where they lack some: a server that
// lost its files knows what it was configured with, and no more.
func (b *Broker) Affirm(ctx context.Context) error {
	if b.shared == nil {
		return nil
	}
	all, err := b.shared.All(ctx)
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	agents, err := b.lookup(ctx, b.claims.agents)
	if err != nil {
		return err
	}
	ops, err := b.lookup(ctx, b.claims.ops)
	if err != nil {
		return err
	}
	missing := !b.signsFor(agents) || !slices.Contains(ops.SigningKeys.Keys(), b.ring().forOps)
	for key, at := range all {
		missing = missing || at >= time.Now().Add(-agentLife).Unix() && agents.Revocations[key] < at
	}
	for key, at := range b.ring().opsRevoked {
		missing = missing || ops.Revocations[key] < at
	}
	if !missing {
		return nil
	}
	return b.announce(ctx)
}

// lookup asks the servers what they know of an account: nothing, where what they
// say can't be read.
func (b *Broker) lookup(ctx context.Context, account *jwt.AccountClaims) (*jwt.AccountClaims, error) {
	ctx, cancel := context.WithTimeout(ctx, claimsWithin)
	defer cancel()
	answer, err := b.system.RequestWithContext(ctx, "$SYS.REQ.ACCOUNT."+account.Subject+".CLAIMS.LOOKUP", nil)
	if err != nil {
		return nil, fleet.Unavailable("the NATS servers do not tell what they know of account %s: %w", account.Name, err)
	}
	known, err := jwt.DecodeAccountClaims(strings.TrimSpace(string(answer.Data)))
	if err != nil {
		return jwt.NewAccountClaims(account.Subject), nil
	}
	return known, nil
}
