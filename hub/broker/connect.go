package broker

import (
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// identities are the hub's own connections, and who it is there.
func (b *Broker) identities() []ownConn {
	return []ownConn{
		{&b.store, "HUB", func() (nats.Option, error) { return own(b.ring().hub, b.claims.hub.Subject, false) }},
		{&b.system, "SYS", func() (nats.Option, error) { return own(b.ring().sys, b.claims.sys.Subject, false) }},
		{&b.agents, "AGENTS", func() (nats.Option, error) { return own(b.ring().hubRole, b.claims.agents.Subject, true) }},
		{&b.ops, "OPS", func() (nats.Option, error) { return own(b.ring().opsHub, b.claims.ops.Subject, true) }},
	}
}

type ownConn struct {
	into    **nats.Conn
	account string
	user    func() (nats.Option, error)
}

// connect opens the hub's own connections.
func (b *Broker) connect() error {
	target, how := "", []nats.Option{nats.InProcessServer(b.server)}
	if b.cfg.external() {
		target, how = strings.Join(b.cfg.Servers, ","), b.dialExternal()
	}
	for _, c := range b.identities() {
		if c.into == &b.ops && b.cfg.external() {
			// Servers that were configured before there was this account get to know it.
			if err := b.update(b.ctx, b.claims.ops); err != nil {
				return err
			}
		}
		user, err := c.user()
		if err != nil {
			return err
		}
		opts := append([]nats.Option{
			user, nats.Name("hub"), nats.CustomInboxPrefix("_INBOX_hub"), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				b.cfg.Log.Warn("hub's own connection", "account", c.account, "error", err)
			}),
		}, how...)
		if *c.into, err = nats.Connect(target, opts...); err != nil {
			return fleet.WithHint(fleet.Unavailable("connect to account %s: %w", c.account, err), "are the servers at --nats-url up, and configured for these keys?")
		}
	}
	return nil
}
