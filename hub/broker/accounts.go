package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/wire"
)

// role is what the holders of one kind of credential may do in AGENTS.
type role struct {
	name     string
	pub, sub []string
	respond  bool
	subs     int64
	payload  int64
}

// An agent may speak below its own name, hear what is meant for it and answer
// what it is asked. {{name()}} is filled in by the server from the JWT, so a
// credential carries no permissions that could be wrong.
var agentRole = role{
	name:    "agent",
	pub:     []string{wire.RoleAgentPub},
	sub:     []string{wire.RoleAgentSub, wire.RoleAgentAll, wire.RoleAgentInbox},
	respond: true,
	subs:    16,
	payload: wire.MaxPayload,
}

// The holder of a join token may ask to enrol, and hear the answer.
var joinRole = role{
	name:    "join",
	pub:     []string{wire.RoleJoinPub},
	sub:     []string{wire.RoleJoinInbox},
	subs:    2,
	payload: 4096,
}

// The hub's own connection, inside the process where the server is embedded.
var hubRole = role{
	name:    "hub",
	pub:     []string{">"},
	sub:     []string{wire.AllUp, wire.AllEnrol, "_INBOX_hub.>"},
	subs:    jwt.NoLimit,
	payload: jwt.NoLimit,
}

// Who operates the fleet may ask the hub's service in OPS, and find it. Answers
// go to any inbox there: all of these see the same.
var opsRole = role{
	name:    "ops",
	pub:     []string{opsSubjects, "$SRV.>"},
	sub:     []string{"_INBOX.>"},
	subs:    64,
	payload: maxOpsAsk,
}

// The hub's own connection to OPS answers into inboxes and nowhere else, because
// the server lets who asks name any subject for the answer.
var opsHubRole = role{
	name:    hubRole.name,
	pub:     []string{"_INBOX.>"},
	sub:     []string{opsSubjects, "$SRV.>"},
	subs:    jwt.NoLimit,
	payload: jwt.NoLimit,
}

// maxOpsConns bounds the connections to OPS, the hubs' among them.
const maxOpsConns = 256

// respondWithin is how long an agent may take to answer.
const respondWithin = 30 * time.Second

func (r role) scope(key, hubFrom string) *jwt.UserScope {
	s := jwt.NewUserScope()
	s.Key, s.Role = key, r.name
	s.Template.Pub.Allow.Add(r.pub...)
	s.Template.Sub.Allow.Add(r.sub...)
	s.Template.Subs, s.Template.Payload = r.subs, r.payload
	if r.respond {
		s.Template.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: respondWithin}
	}
	if r.name == hubRole.name {
		s.Template.Pub.Deny.Add("$SYS.>", "$JS.>")
		s.Template.AllowedConnectionTypes = jwt.StringList{hubFrom}
	} else {
		s.Template.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket}
	}
	return s
}

// claims are the accounts' statements about themselves, signed by the operator.
type claims struct {
	operator              *jwt.OperatorClaims
	sys, hub, agents, ops *jwt.AccountClaims
}

// accounts are all there are.
func (c *claims) accounts() []*jwt.AccountClaims {
	return []*jwt.AccountClaims{c.sys, c.hub, c.agents, c.ops}
}

// newClaims states the four accounts. Only HUB has JetStream, and nothing is
// exported from one to another. hubFrom is the type of the hub's own connections.
func newClaims(k *keyring, revoked revocations, hubFrom string, now time.Time) (*claims, error) {
	var c claims
	var ids []string
	for _, kp := range []nkeys.KeyPair{k.operator, k.sys, k.hub, k.agents, k.agentRole, k.joinRole, k.hubRole, k.ops, k.opsRole, k.opsHub} {
		id, err := kp.PublicKey()
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	operator := jwt.NewOperatorClaims(ids[0])
	operator.Name, operator.SystemAccount = "capstan", ids[1]
	token, err := operator.Encode(k.operator)
	if err != nil {
		return nil, err
	}
	if c.operator, err = jwt.DecodeOperatorClaims(token); err != nil {
		return nil, err
	}
	c.sys = jwt.NewAccountClaims(ids[1])
	c.sys.Name = "SYS"
	c.hub = jwt.NewAccountClaims(ids[2])
	c.hub.Name = "HUB"
	c.hub.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}
	c.agents = jwt.NewAccountClaims(ids[3])
	c.agents.Name = "AGENTS"
	for i, r := range []role{agentRole, joinRole, hubRole} {
		c.agents.SigningKeys.AddScopedSigner(r.scope(ids[4+i], hubFrom))
	}
	c.ops = jwt.NewAccountClaims(ids[7])
	c.ops.Name, c.ops.Limits.Conn = "OPS", maxOpsConns
	c.ops.SigningKeys.AddScopedSigner(opsRole.scope(ids[8], hubFrom))
	c.ops.SigningKeys.AddScopedSigner(opsHubRole.scope(ids[9], hubFrom))
	for _, r := range k.retired {
		if r.Role == opsRole.name && r.Key != ids[8] && now.Before(r.Until) {
			c.ops.SigningKeys.AddScopedSigner(opsRole.scope(r.Key, hubFrom))
		}
		for i, of := range []role{agentRole, joinRole} {
			if r.Role == of.name && r.Key != ids[4+i] && now.Before(r.Until) {
				c.agents.SigningKeys.AddScopedSigner(of.scope(r.Key, hubFrom))
			}
		}
	}
	for key, at := range revoked {
		c.agents.RevokeAt(key, time.Unix(at, 0))
	}
	for key, at := range k.opsRevoked {
		c.ops.RevokeAt(key, time.Unix(at, 0))
	}
	return &c, nil
}

// credential signs a JWT for a user's public key. With a role's signing key
// the role alone says what the user may do.
func credential(signer nkeys.KeyPair, account, key, name string, scoped bool, life time.Duration, now time.Time) (string, error) {
	u := jwt.NewUserClaims(key)
	u.Name = name
	if scoped {
		u.SetScoped(true)
		u.IssuerAccount = account
	}
	if life > 0 {
		u.Expires = now.Add(life).Unix()
	}
	return u.Encode(signer)
}

// own makes the hub's own, short-lived identity for a connection inside the
// process.
func own(signer nkeys.KeyPair, account string, scoped bool) (nats.Option, error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	key, err := kp.PublicKey()
	if err != nil {
		return nil, err
	}
	token, err := credential(signer, account, key, "hub", scoped, 0, time.Now())
	if err != nil {
		return nil, err
	}
	return nats.UserJWT(func() (string, error) { return token, nil }, kp.Sign), nil
}

// revocations are the keys whose credentials are worthless, with the second
// (Unix) up to which they were issued. They outlive the process in a file: the
// server keeps none of it.
type revocations map[string]int64

func readRevocations(path string) (revocations, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return revocations{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := revocations{}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", filepath.Base(path), err)
	}
	return r, nil
}

// drop forgets revocations of credentials that have run out by themselves.
func (r revocations) drop(before time.Time) {
	for key, at := range r {
		if at < before.Unix() {
			delete(r, key)
		}
	}
}

func (r revocations) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return WriteSecret(path, append(data, '\n'))
}
