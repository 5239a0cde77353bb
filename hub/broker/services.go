package broker

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

const (
	// workers share the clusters among them, so that one cluster's messages are
	// dealt with one after the other.
	workers = 16
	// backlog is how many messages may wait for a worker; more are dropped, and
	// asked again by whoever sent them.
	backlog = 8192
	// answerWithin bounds the work on one message.
	answerWithin = 10 * time.Second
	// queue makes several hub processes share the work.
	queue = "hub"
)

func (b *Broker) subscribe(desk Desk) error {
	for range workers {
		b.queues = append(b.queues, b.work(func(m *nats.Msg) { b.serveUp(desk, m) }))
	}
	enrols := b.work(func(m *nats.Msg) { b.serveEnrol(desk, m) })
	up, err := b.agents.QueueSubscribe(wire.AllUp, queue, b.takeUp)
	if err != nil {
		return fmt.Errorf("serve agents: %w", err)
	}
	enrol, err := b.agents.QueueSubscribe(wire.AllEnrol, queue, func(m *nats.Msg) { b.takeEnrol(enrols, m) })
	if err != nil {
		return fmt.Errorf("serve enrolments: %w", err)
	}
	b.subs = append(b.subs, up, enrol)
	if b.cfg.external() {
		// One hub answers a heartbeat; all have to know when a cluster was last seen.
		if _, err := b.agents.Subscribe(wire.AllHeartbeats, func(m *nats.Msg) { b.notice(desk, m) }); err != nil {
			return fmt.Errorf("hear heartbeats: %w", err)
		}
	}
	if err := b.agents.Flush(); err != nil {
		return fmt.Errorf("serve agents: %w", err)
	}
	return nil
}

// waiting is a message in a queue.
type waiting struct {
	m     *nats.Msg
	since time.Time
}

// work starts a worker and returns its queue. What has waited for so long that
// its sender has given up is left out: answered, it would keep the hub behind
// with what is asked anew.
func (b *Broker) work(serve func(*nats.Msg)) chan<- waiting {
	q := make(chan waiting, backlog)
	b.workers.Go(func() {
		for {
			select {
			case w := <-q:
				if time.Since(w.since) > answerWithin {
					b.drop(w.m, "its sender has given up")
				} else {
					serve(w.m)
				}
				b.taken.Add(-1)
			case <-b.ctx.Done():
				return
			}
		}
	})
	return q
}

// takeUp sorts out what is not to be answered, before it costs anything.
func (b *Broker) takeUp(m *nats.Msg) {
	up, err := wire.ParseUp(m.Subject)
	// The reply subject is whatever the sender wrote, and the hub may publish
	// where an agent may not: an answer elsewhere than in the cluster's own inbox
	// would be a message the agent forged in the hub's name.
	if err != nil || !wire.AnswersWithin(m.Reply, wire.Inbox(up.Cluster)) {
		return
	}
	if !b.gate.allow(up.Cluster, m.Size(), time.Now()) {
		err := fleet.WithHint(fleet.Unavailable("cluster %s sends more than its share", up.Cluster), "send less often")
		b.cfg.Observe(word(up.Verb), err)
		b.refuse(m, err)
		return
	}
	h := fnv.New32a()
	h.Write([]byte(up.Cluster))
	b.enqueue(b.queues[h.Sum32()%workers], m)
}

// enrolment is what an enrolment is counted as.
const enrolment = "enrol"

// word is a verb as it is counted: an agent's own invention is none.
func word(verb string) string {
	switch verb {
	case wire.VerbStatus, wire.VerbResent, wire.VerbHeartbeat, wire.VerbIntent, wire.VerbRenew, wire.VerbLink:
		return verb
	}
	return "other"
}

// notice passes on a heartbeat. Whatever is wrong with one is for the hub to say
// that answers it.
func (b *Broker) notice(desk Desk, m *nats.Msg) {
	up, err := wire.ParseUp(m.Subject)
	if err != nil {
		return
	}
	if hb, err := wire.Decode[wire.Heartbeat](m.Data); err == nil {
		desk.Noticed(up.Cluster, hb)
	}
}

func (b *Broker) enqueue(q chan<- waiting, m *nats.Msg) {
	b.taken.Add(1)
	select {
	case q <- waiting{m, time.Now()}:
	default:
		b.taken.Add(-1)
		b.drop(m, "too many wait")
	}
}

func (b *Broker) drop(m *nats.Msg, why string) {
	what := enrolment
	if up, err := wire.ParseUp(m.Subject); err == nil {
		what = word(up.Verb)
	}
	b.cfg.Dropped(what)
	n := b.dropped.Add(1)
	b.tellDropped.Do(func() {
		b.cfg.Log.Warn("dropped a message", "subject", m.Subject, "why", why, "dropped so far", n)
	})
}

// serveUp answers one message of an agent. Its headers are never looked at and
// never passed on.
func (b *Broker) serveUp(desk Desk, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(b.ctx, answerWithin)
	defer cancel()
	up, err := wire.ParseUp(m.Subject)
	if err != nil {
		return
	}
	answer, err := b.answer(ctx, desk, up, m.Data)
	b.cfg.Observe(word(up.Verb), err)
	if err != nil {
		b.cfg.Log.Debug("refused a message", "subject", m.Subject, "error", err)
		b.refuse(m, err)
		return
	}
	b.respond(m, answer)
}

func (b *Broker) answer(ctx context.Context, desk Desk, up wire.Up, data []byte) (wire.Message, error) {
	switch up.Verb {
	case wire.VerbStatus:
		r, err := wire.Decode[wire.Report](data)
		if err != nil {
			return nil, err
		}
		if r.Name() != up.App {
			return nil, fleet.Invalid("a report of %s came on the subject of %s", r.Name(), up.App)
		}
		return wire.Ack{}, desk.Report(ctx, up.Cluster, r)
	case wire.VerbResent:
		r, err := wire.Decode[wire.Resent](data)
		if err != nil {
			return nil, err
		}
		return wire.Ack{}, desk.Resent(ctx, up.Cluster, r)
	case wire.VerbHeartbeat:
		hb, err := wire.Decode[wire.Heartbeat](data)
		if err != nil {
			return nil, err
		}
		ack, err := desk.Heartbeat(ctx, up.Cluster, hb)
		ack.Issuer, ack.Link = b.ring().issuer, b.link().Stamp()
		return ack, err
	case wire.VerbIntent:
		if _, err := wire.Decode[wire.IntentGet](data); err != nil {
			return nil, err
		}
		in, err := desk.Intent(ctx, up.Cluster)
		return wire.Intent{Intent: in}, err
	case wire.VerbRenew:
		r, err := wire.Decode[wire.Renew](data)
		if err != nil {
			return nil, err
		}
		if err := desk.MayRenew(ctx, up.Cluster, r.Key); err != nil {
			return nil, err
		}
		token, err := b.agentCredential(ctx, up.Cluster, r.Key)
		return wire.Renewed{JWT: token}, err
	case wire.VerbLink:
		_, err := wire.Decode[wire.LinkGet](data)
		return b.link(), err
	}
	return nil, fleet.Invalid("%q is not served", up.Verb)
}

// takeEnrol does for enrolments what takeUp does for the rest.
func (b *Broker) takeEnrol(q chan<- waiting, m *nats.Msg) {
	join, err := wire.ParseEnrol(m.Subject)
	if err != nil || !wire.AnswersWithin(m.Reply, wire.JoinInbox(join)) {
		return
	}
	if !b.gate.allowEnrol(join, m.Size(), time.Now()) {
		err := fleet.WithHint(fleet.Unavailable("join token: it is tried too often"), "try again in a while")
		b.cfg.Observe(enrolment, err)
		b.refuse(m, err)
		return
	}
	b.enqueue(q, m)
}

func (b *Broker) serveEnrol(desk Desk, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(b.ctx, answerWithin)
	defer cancel()
	join, err := wire.ParseEnrol(m.Subject)
	if err != nil {
		return
	}
	answer, err := b.enrol(ctx, desk, join, m.Data)
	b.cfg.Observe(enrolment, err)
	if err != nil {
		b.cfg.Log.Warn("refused an enrolment", "join", join, "error", err)
		b.refuse(m, err)
		return
	}
	b.cfg.Log.Info("enrolled an agent", "join", join, "cluster", answer.Cluster)
	b.respond(m, answer)
}

func (b *Broker) enrol(ctx context.Context, desk Desk, join string, data []byte) (wire.Enrolled, error) {
	none := wire.Enrolled{}
	r, err := wire.Decode[wire.Enrol](data)
	if err != nil {
		return none, err
	}
	if !nkeys.IsValidPublicUserKey(r.Key) {
		return none, fleet.Invalid("enrol: the key is not a public user nkey")
	}
	key, err := nkeys.FromPublicKey(r.Key)
	if err != nil {
		return none, fleet.Invalid("enrol: the key is not a public user nkey")
	}
	if key.Verify(wire.EnrolProof(join, r.Key), r.Proof) != nil {
		return none, fleet.Forbidden("enrol: the proof is not made with the key")
	}
	cluster, err := desk.Enrol(ctx, join, r.Key)
	if err != nil {
		return none, err
	}
	token, err := b.agentCredential(ctx, cluster, r.Key)
	if err != nil {
		return none, err
	}
	return wire.Enrolled{JWT: token, Cluster: cluster, Instance: b.instance}, nil
}

func (b *Broker) refuse(m *nats.Msg, err error) { b.respond(m, wire.Fail(err)) }

func (b *Broker) respond(m *nats.Msg, answer wire.Message) {
	data, err := wire.Encode(answer)
	if err == nil {
		err = b.agents.Publish(m.Reply, data)
	}
	if err != nil {
		b.cfg.Log.Warn("can't answer", "subject", m.Subject, "error", err)
	}
}
