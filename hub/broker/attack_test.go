package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// A victim is the agent of c2, hearing all that its credential lets it hear,
// and what the hub knows of it.
type victim struct {
	b     *bench
	heard chan *nats.Msg
}

func newVictim(t *testing.T, b *bench) *victim {
	t.Helper()
	a, _ := b.agent(t, "c2")
	v := &victim{b: b, heard: make(chan *nats.Msg, 100)}
	if _, err := ask[wire.Ack](t, a, wire.StatusSubject("c2", web), status("untouched")); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"down.c2.>", "_INBOX_c2.>", "all.>"} {
		if _, err := a.ChanSubscribe(subject, v.heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	return v
}

// unharmed checks that the victim heard nothing, and that what is known of it
// did not change. It sends the victim a last message, behind which nothing of
// the attack can still be under way.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	const last = "last"
	if err := v.b.PushIntent("c2", fleet.Intent{Instance: last, Revision: 9}); err != nil {
		t.Fatal(err)
	}
	for m := range v.heard {
		in, err := wire.Decode[wire.Intent](m.Data)
		if err == nil && in.Intent.Instance == last {
			break
		}
		t.Errorf("the victim heard %s on %s", m.Data, m.Subject)
	}
	if got := v.b.desk.status("c2/shop/web"); got != "untouched" {
		t.Errorf("the victim's status is %q", got)
	}
}

// settle makes sure the hub has dealt with all that the attacker sent: one
// cluster's messages are dealt with in order.
func settle(t *testing.T, attacker *nats.Conn) {
	t.Helper()
	if _, err := ask[wire.Intent](t, attacker, wire.IntentGetSubject("c1"), wire.IntentGet{}); err != nil {
		t.Fatal(err)
	}
}

func TestAnAgentCannotSpeakForAnother(t *testing.T) {
	b := serve(t)
	v := newVictim(t, b)
	refused := make(chan error, 100)
	a, _ := b.agent(t, "c1", nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	forged := encode(t, status("forged"))
	subjects := []string{
		wire.StatusSubject("c2", web), wire.HeartbeatSubject("c2"), wire.ResentSubject("c2"), wire.RenewSubject("c2"),
		"up.*.hb", "up.c1", "down.c2.intent", "down.c1.intent", "all.git", "enroll.j1",
		"_INBOX_c2.x", "_INBOX_hub.x", "$KV.intent.c2", "$KV.status.c2.shop.web",
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.PURGE.KV_status", "$JS.API.CONSUMER.CREATE.KV_intent", "$JS.API.DIRECT.GET.KV_intent.$KV.intent.c2",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.CLAIMS.LIST",
	}
	for _, s := range subjects {
		if err := a.Publish(s, forged); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	for range subjects {
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("got %v, want a permission violation", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the server let some of it through")
		}
	}
	v.unharmed(t)
}

func TestAnAgentCannotListenToAnother(t *testing.T) {
	b := serve(t)
	refused := make(chan error, 100)
	a, _ := b.agent(t, "c1", nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	subjects := []string{
		">", "*.>", "up.>", "up.*.>", "up.c1.>", "down.>", "down.*.intent", "down.c2.>", "_INBOX.>", "_INBOX_c2.>", "_INBOX_hub.>",
		"enroll.>", "$SYS.>", "$JS.>", "$KV.>", "$KV.intent.c1",
	}
	for _, s := range subjects {
		if _, err := a.SubscribeSync(s); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: got %v, want a permission violation", s, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("the server lets an agent listen on %s", s)
		}
	}
}

// The server does not check a publisher's reply subject, and the hub may
// publish where an agent may not. So the hub must not be made to.
func TestAForgedReplySubjectIsNotAnswered(t *testing.T) {
	b := serve(t)
	v := newVictim(t, b)
	a, _ := b.agent(t, "c1")
	requests := map[string][]byte{
		wire.StatusSubject("c1", web):   encode(t, status("own")),
		wire.IntentGetSubject("c1"):     encode(t, wire.IntentGet{}),
		wire.HeartbeatSubject("c1"):     encode(t, wire.Heartbeat{Epoch: 1, Cluster: fleet.ClusterReport{Interval: time.Second}}),
		wire.RenewSubject("c1"):         []byte("damaged: the refusal must not go astray either"),
		wire.ResentSubject("c1") + ".x": nil,
	}
	for _, reply := range []string{
		"_INBOX_c2.forged", "down.c2.intent", "down.c2.ask", "up.c2.status.shop.web", "all.git", "enroll.join-c2",
		"$KV.intent.c2", "$KV.status.c2.shop.web", "$JS.API.STREAM.PURGE.KV_status", "$SYS.REQ.SERVER.PING", "_INBOX_c1.>", "_INBOX_c1", "_INBOX_c11.x",
	} {
		for subject, data := range requests {
			if err := a.PublishRequest(subject, reply, data); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(t, a)
	v.unharmed(t)
	// Nor was what came with a forged reply carried out.
	if got := b.desk.status("c1/shop/web"); got != "" {
		t.Errorf("the request was carried out: %q", got)
	}
}

func TestAnAgentsHeadersGoNowhere(t *testing.T) {
	b := serve(t)
	v := newVictim(t, b)
	a, _ := b.agent(t, "c1")
	err := a.PublishMsg(&nats.Msg{
		Subject: wire.StatusSubject("c1", web), Reply: "_INBOX_c1.x",
		Header: nats.Header{"Nats-Trace-Dest": {"down.c2.intent"}}, Data: encode(t, status("own")),
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.RequestMsg(&nats.Msg{
		Subject: wire.StatusSubject("c1", web),
		Header: nats.Header{
			"Nats-Rollup": {"all"}, "Nats-Msg-Id": {"x"},
			"Nats-Schedule-Target": {"$KV.status.c2.shop.web"}, "KV-Operation": {"PURGE"},
		},
		Data: encode(t, status("own")),
	}, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Header) != 0 {
		t.Errorf("the answer has headers: %v", answer.Header)
	}
	v.unharmed(t)
}

func TestTheHolderOfAJoinTokenCanOnlyEnrol(t *testing.T) {
	b := serve(t)
	v := newVictim(t, b)
	nc, err := b.token(t, "j1", "c1", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 100)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	subjects := []string{"enroll.j2", "enroll.join-c2", "up.c1.hb", wire.StatusSubject("c2", web), "down.c2.intent", "all.git", "$JS.API.INFO", "$SYS.REQ.SERVER.PING"}
	for _, s := range subjects {
		if err := nc.Publish(s, encode(t, status("forged"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{">", "_INBOX_join_*.>", "_INBOX_join_join-c2.>"} {
		if _, err := nc.SubscribeSync(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for range len(subjects) + 3 {
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("got %v, want a permission violation", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the server let some of it through")
		}
	}
	v.unharmed(t)
}

func TestAReportMustComeOnItsOwnSubject(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1")
	other := fleet.AppName{Namespace: "shop", Name: "other"}
	if _, err := ask[wire.Ack](t, a, wire.StatusSubject("c1", other), status("astray")); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestAClusterThatFloodsIsTurnedAwayAlone(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1")
	other, _ := b.agent(t, "c2")
	inbox, err := a.SubscribeSync("_INBOX_c1.flood")
	if err != nil {
		t.Fatal(err)
	}
	turned := false
	for i := 0; i < 50 && !turned; i++ {
		for j := range 500 {
			r := status(fmt.Sprint(i, j))
			if err := a.PublishRequest(wire.StatusSubject("c1", web), "_INBOX_c1.flood", encode(t, r)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Flush(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := inbox.NextMsg(50 * time.Millisecond)
			if err != nil {
				break
			}
			if _, err := wire.Decode[wire.Ack](m.Data); errors.Is(err, fleet.ErrUnavailable) {
				turned = true
			}
		}
	}
	if !turned {
		t.Error("25,000 messages at once were taken")
	}
	if _, err := ask[wire.Ack](t, other, wire.StatusSubject("c2", web), status("well")); err != nil {
		t.Errorf("the other cluster: %v", err)
	}
}
