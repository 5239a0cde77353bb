package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// agentLife is how long an agent's credential lives. Agents renew it long
// before; one that was away for longer has to join again.
const agentLife = 90 * 24 * time.Hour

// JoinUser makes the credential that a join token carries.
func (b *Broker) JoinUser(join string, until time.Time) (token, seed string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", "", err
	}
	key, err := kp.PublicKey()
	if err != nil {
		return "", "", err
	}
	secret, err := kp.Seed()
	if err != nil {
		return "", "", err
	}
	now := time.Now()
	token, err = credential(b.ring().joinRole, b.claims.agents.Subject, key, join, true, max(until.Sub(now), time.Second), now)
	return token, string(secret), err
}

// agentCredential makes the credential of an agent's own key. The name in it
// decides on every subject it may use.
func (b *Broker) agentCredential(ctx context.Context, cluster, key string) (string, error) {
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return "", err
	}
	b.mu.Lock()
	revoked := b.revoked[key]
	b.mu.Unlock()
	// A revocation counts for what was issued up to the end of its second.
	if wait := time.Until(time.Unix(revoked+1, 0)); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", fleet.Unavailable("the hub is stopping")
		}
	}
	return credential(b.ring().agentRole, b.claims.agents.Subject, key, cluster, true, agentLife, time.Now())
}

// link is where agents are told that the hub is.
func (b *Broker) link() wire.Link {
	urls, ca := b.Address()
	return wire.Link{URLs: urls, CA: ca}
}

// Revoke makes a key's credentials worthless and cuts its connections. It is
// written down first: a revocation that a restart forgets would be none.
func (b *Broker) Revoke(ctx context.Context, key string) error {
	if b.cfg.external() {
		return b.revokeShared(ctx, key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.revoked[key] = now.Unix()
	if err := b.revoked.write(b.revokedPath()); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if err := b.tell(); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return nil
}

// PushIntent tells a cluster's agent what is wanted of it, if it listens.
func (b *Broker) PushIntent(cluster string, in fleet.Intent) error {
	return b.send(wire.IntentSubject(cluster), wire.Intent{Intent: in})
}

// GitPushed tells every agent that somebody pushed, and what moved. Where that
// is more than a notice takes, it is left out: then agents look whatever they
// follow.
func (b *Broker) GitPushed(p fleet.Push) error {
	notice := wire.GitNotice{URL: p.RepoURL, Refs: p.Refs, Agents: p.Agents}
	if _, err := wire.Encode(notice); err != nil {
		notice.Refs = nil
	}
	return b.send(wire.GitSubject, notice)
}

func (b *Broker) send(subject string, m wire.Message) error {
	data, err := wire.Encode(m)
	if err != nil {
		return err
	}
	if err := b.agents.Publish(subject, data); err != nil {
		return fleet.Unavailable("the link to the agents: %w", err)
	}
	return nil
}

// askWithin is how long an agent may take over one piece of an answer.
const askWithin = 15 * time.Second

// Ask gets a piece of an answer from a cluster's agent. ErrUnavailable: it does
// not answer; the agent's own refusals come as they are.
func (b *Broker) Ask(ctx context.Context, cluster string, a wire.Ask) (wire.Part, error) {
	data, err := wire.Encode(a)
	if err != nil {
		return wire.Part{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	m, err := b.agents.RequestWithContext(ctx, wire.AskSubject(cluster), data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return wire.Part{}, fleet.WithHint(fleet.Unavailable("the agent of cluster %s is not connected", cluster), "see: capstan get clusters")
	case err != nil:
		return wire.Part{}, fleet.WithHint(fleet.Unavailable("the agent of cluster %s does not answer: %w", cluster, err), "see: capstan get clusters")
	}
	return wire.Decode[wire.Part](m.Data)
}
