package hub_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// attacker is who makes one attack, with what it may get hold of lawfully.
type attacker struct {
	*testing.T
	*fort
	over    string // tls or wss
	cluster string
}

// agent is an enrolled agent's end of the link.
type agent struct {
	*nats.Conn
	cluster string
	key     nkeys.KeyPair
	jwt     string
	epoch   uint64
	seq     uint64
	refused chan error
	asked   map[string]bool // reply subjects of its own requests
}

// must ends the test where the attack could not even be made.
func (x *attacker) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatalf("can't make the attack: %v", err)
	}
}

// token gets a join token for a cluster from the hub's people.
func (x *attacker) token(cluster string, ttl time.Duration) wire.JoinToken {
	x.Helper()
	grant, err := x.people().Join(x.Context(), cluster, ttl)
	x.must(err)
	token, err := wire.ParseJoinToken(grant.Token)
	x.must(err)
	if x.trust == nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(token.CA)) {
			x.Fatal("the token holds no CA")
		}
		x.trust = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return token
}

// connect dials with a credential.
func (x *attacker) connect(jwt string, key nkeys.KeyPair, inbox string, opts ...nats.Option) (*agent, error) {
	x.Helper()
	a := &agent{key: key, jwt: jwt, cluster: x.cluster, epoch: 1, refused: make(chan error, 1000), asked: map[string]bool{}}
	opts = append([]nats.Option{
		nats.UserJWT(func() (string, error) { return jwt, nil }, key.Sign), nats.Secure(x.trust), nats.CustomInboxPrefix(inbox), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.refused <- err }),
	}, opts...)
	nc, err := nats.Connect(x.urls[x.over], opts...)
	if err != nil {
		return nil, err
	}
	x.Cleanup(nc.Close)
	a.Conn = nc
	return a, nil
}

// joiner connects as the holder of a join token.
func (x *attacker) joiner(token wire.JoinToken) *agent {
	x.Helper()
	key, err := nkeys.FromSeed([]byte(token.Seed))
	x.must(err)
	a, err := x.connect(token.JWT, key, wire.JoinInbox(token.Join))
	x.must(err)
	return a
}

// newKey is a user's key that nobody knows.
func (x *attacker) newKey() (nkeys.KeyPair, string) {
	x.Helper()
	key, err := nkeys.CreateUser()
	x.must(err)
	pub, err := key.PublicKey()
	x.must(err)
	return key, pub
}

// enrol enrols a key with a token.
func (x *attacker) enrol(j *agent, join string, key nkeys.KeyPair) (wire.Enrolled, error) {
	x.Helper()
	pub, err := key.PublicKey()
	x.must(err)
	proof, err := key.Sign(wire.EnrolProof(join, pub))
	x.must(err)
	return say[wire.Enrolled](j, wire.EnrolSubject(join), wire.Enrol{Key: pub, Proof: proof})
}

// agent enrols the attacker's own cluster, and connects as its agent.
func (x *attacker) agent() *agent {
	x.Helper()
	token := x.token(x.cluster, 0)
	j := x.joiner(token)
	key, _ := x.newKey()
	got, err := x.enrol(j, token.Join, key)
	x.must(err)
	j.Close()
	a, err := x.connect(got.JWT, key, wire.Inbox(x.cluster))
	x.must(err)
	x.must(a.hello())
	return a
}

// say asks the hub something.
func say[M wire.Message](a *agent, subject string, m wire.Message) (M, error) {
	var none M
	data, err := wire.Encode(m)
	if err != nil {
		return none, err
	}
	return sayRaw[M](a, subject, data)
}

func sayRaw[M wire.Message](a *agent, subject string, data []byte) (M, error) {
	var none M
	reply := a.NewInbox()
	a.asked[reply] = true
	sub, err := a.SubscribeSync(reply)
	if err != nil {
		return none, err
	}
	defer sub.Unsubscribe()
	if err := a.PublishRequest(subject, reply, data); err != nil {
		return none, err
	}
	answer, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		return none, err
	}
	return wire.Decode[M](answer.Data)
}

func (a *agent) hello() error {
	_, err := say[wire.HeartbeatAck](a, wire.HeartbeatSubject(a.cluster), wire.Heartbeat{Epoch: a.epoch, Cluster: fleet.ClusterReport{
		UID: "uid-" + a.cluster, Interval: time.Minute, Assignable: []string{"env"},
	}})
	return err
}

func (a *agent) report(app fleet.AppName, message string) error {
	a.seq++
	_, err := say[wire.Ack](a, wire.StatusSubject(a.cluster, app), a.status(app, message))
	return err
}

func (a *agent) status(app fleet.AppName, message string) wire.Report {
	return wire.Report{Epoch: a.epoch, Seq: a.seq, App: &fleet.AppStatus{
		Namespace: app.Namespace, App: app.Name, Sync: fleet.Synced, Health: fleet.Healthy, Message: message,
	}}
}

// settle waits until the hub has dealt with all that was sent: it takes one
// cluster's messages in order.
func (x *attacker) settle(a *agent) {
	x.Helper()
	_, err := say[wire.Intent](a, wire.IntentGetSubject(a.cluster), wire.IntentGet{})
	x.must(err)
}

// refusal is what the server says to what was just sent: nil, if it took it.
func (x *attacker) refusal(a *agent) error {
	x.Helper()
	if err := a.Flush(); err != nil {
		return err
	}
	select {
	case err := <-a.refused:
		return err
	case <-time.After(time.Second):
		return nil
	}
}

// own are the attacker's own apps, as the hub knows them.
func (x *attacker) own() string {
	x.Helper()
	apps, err := x.people().Apps(x.Context(), fleet.AppFilter{Clusters: []string{x.cluster}})
	x.must(err)
	var out []string
	for _, a := range apps {
		out = append(out, a.App+"="+a.Message)
	}
	return strings.Join(out, " ")
}

var errDropped = errors.New("nothing came of it")

// dropped says that a message was not carried out.
func (x *attacker) dropped(a *agent) error {
	x.Helper()
	x.settle(a)
	if got := x.own(); got != "" {
		x.Errorf("it was carried out: %s", got)
	}
	return errDropped
}
