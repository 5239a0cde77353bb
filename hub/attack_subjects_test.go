package hub_test

import (
	"bytes"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// speaksForOthers: an enrolled agent publishes where it should not.
func speaksForOthers() []attack {
	var all []attack
	for name, subject := range map[string]string{
		"report for another":                wire.StatusSubject("victim", web),
		"beat for another":                  wire.HeartbeatSubject("victim"),
		"end another's epoch":               wire.ResentSubject("victim"),
		"renew on another's subject":        wire.RenewSubject("victim"),
		"ask for another's way to the hub":  wire.LinkSubject("victim"),
		"get another's intent":              wire.IntentGetSubject("victim"),
		"speak for all":                     "up.*.hb",
		"speak with no verb":                "up",
		"tell another its intent":           wire.IntentSubject("victim"),
		"ask another":                       wire.AskSubject("victim"),
		"tell all of a push":                wire.GitSubject,
		"enrol as an agent":                 wire.EnrolSubject("someone"),
		"answer in another's inbox":         "_INBOX_victim.x",
		"answer in the hub's inbox":         "_INBOX_hub.x",
		"put another's intent":              "$KV.intent.victim",
		"put another's report":              "$KV.status.victim.shop.web",
		"put an approval":                   "$KV.approvals.x",
		"write the audit log":               "audit.victim",
		"purge a bucket":                    "$JS.API.STREAM.PURGE.KV_status",
		"delete a bucket":                   "$JS.API.STREAM.DELETE.KV_status",
		"mirror a bucket":                   "$JS.API.STREAM.CREATE.EVIL",
		"watch a bucket":                    "$JS.API.CONSUMER.CREATE.KV_intent",
		"read a bucket":                     "$JS.API.DIRECT.GET.KV_intent.$KV.intent.victim",
		"read a message by number":          "$JS.API.STREAM.MSG.GET.KV_intent",
		"acknowledge what is not its own":   "$JS.ACK.KV_status.x.1.1.1.1.1",
		"ask the system who is there":       "$SYS.REQ.ACCOUNT.PING.CONNZ",
		"ask the system for its servers":    "$SYS.REQ.SERVER.PING",
		"give the system another account":   "$SYS.REQ.CLAIMS.UPDATE",
		"have the system delete an account": "$SYS.REQ.CLAIMS.DELETE",
		"have the system cut another":       "$SYS.REQ.SERVER.PING.KICK",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			data, err := wire.Encode(a.status(web, "forged"))
			if err != nil {
				data = []byte("forged")
			}
			x.must(a.Publish(subject, data))
			return x.refusal(a)
		}})
	}
	return append(all, attack{"tell itself its intent", func(x *attacker) error {
		a := x.agent()
		x.must(a.Publish(wire.IntentSubject(x.cluster), []byte("approved")))
		return x.refusal(a)
	}})
}

// listensToOthers: an enrolled agent subscribes to what is not for it.
func listensToOthers() []attack {
	var all []attack
	for _, subject := range []string{
		">", "*.>", "*", "up.>", "up.*.>", "up.victim.>", "down.>", "down.*.intent", "down.victim.>", "down.victim.ask",
		"_INBOX.>", "_INBOX_victim.>", "_INBOX_hub.>", "enroll.>", "$SYS.>", "$SYS.ACCOUNT.*.CONNECT", "$JS.>", "$KV.>", "$KV.intent.victim", "audit.>",
	} {
		all = append(all, attack{"listen to " + strings.NewReplacer(">", "all", "*", "any", "$", "", ".", " ", "_", "").Replace(subject), func(x *attacker) error {
			a := x.agent()
			if _, err := a.SubscribeSync(subject); err != nil {
				return err
			}
			return x.refusal(a)
		}})
	}
	return append(all, attack{"take the hub's work", func(x *attacker) error {
		a := x.agent()
		if _, err := a.QueueSubscribeSync(wire.AllUp, "hub"); err != nil {
			return err
		}
		return x.refusal(a)
	}})
}

// forgesReplies: the server does not check the reply subject that a publisher
// names, and the hub may publish where an agent may not. So it must not be made
// to.
func forgesReplies() []attack {
	var all []attack
	for name, reply := range map[string]string{
		"be answered in another's inbox":         "_INBOX_victim.forged",
		"be answered as another's intent":        "down.victim.intent",
		"be answered as another's question":      "down.victim.ask",
		"be answered as another's report":        "up.victim.status.shop.web",
		"be answered as a push":                  "all.git",
		"be answered as an enrolment":            "enroll.someone",
		"be answered in the hub's inbox":         "_INBOX_hub.x",
		"be answered into a bucket":              "$KV.intent.victim",
		"be answered by a purge":                 "$JS.API.STREAM.PURGE.KV_status",
		"be answered by the system":              "$SYS.REQ.SERVER.PING",
		"be answered in all inboxes":             "_INBOX_OWN.>",
		"be answered at an inbox's root":         "_INBOX_OWN",
		"be answered in an inbox of a like name": "_INBOX_OWN1.x",
		"be answered with a space":               "_INBOX_OWN.x y",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			reply := strings.ReplaceAll(reply, "OWN", x.cluster)
			a.seq++
			report, err := wire.Encode(a.status(web, "forged"))
			x.must(err)
			intent, err := wire.Encode(wire.IntentGet{})
			x.must(err)
			for subject, data := range map[string][]byte{
				wire.StatusSubject(x.cluster, web): report,
				wire.IntentGetSubject(x.cluster):   intent,
				wire.RenewSubject(x.cluster):       []byte("damaged: the refusal must not go astray either"),
				"up." + x.cluster + ".x.y":         nil,
			} {
				if strings.Contains(reply, " ") { // nats.go would refuse it itself
					return rawly(x, a, "PUB "+subject+" "+reply+" 2\r\n{}\r\n")
				}
				x.must(a.PublishRequest(subject, reply, data))
			}
			return x.dropped(a)
		}})
	}
	return append(all, attack{"answer a question of the hub twice", func(x *attacker) error {
		a := x.agent()
		x.must(a.report(web, "own"))
		part, err := wire.Encode(wire.Part{ETag: "e", Total: 2, Data: []byte("[]")})
		x.must(err)
		asked, err := a.SubscribeSync(wire.AskSubject(x.cluster))
		x.must(err)
		x.must(a.Flush())
		done := make(chan error, 1)
		go func() {
			_, err := x.people().Tree(x.Context(), x.cluster, web)
			done <- err
		}()
		m, err := asked.NextMsg(10 * time.Second)
		x.must(err)
		x.must(m.Respond(part))
		x.must(<-done)
		x.must(m.Respond([]byte("once more")))
		return x.refusal(a)
	}})
}

// rawly sends a line that the client library would not.
func rawly(x *attacker, a *agent, line string) error {
	x.Helper()
	r := x.raw()
	defer r.Close()
	r.login(x, a.jwt, a.key)
	return r.say(x, line)
}

// addsHeaders: what comes in a header goes nowhere.
func addsHeaders() []attack {
	var all []attack
	for name, header := range map[string]nats.Header{
		"have messages traced to another":  {"Nats-Trace-Dest": {"down.victim.intent"}},
		"roll a bucket up":                 {"Nats-Rollup": {"all"}, "KV-Operation": {"PURGE"}},
		"have a message scheduled":         {"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"$KV.status.victim.shop.web"}},
		"pass for another in a header":     {"Nats-Request-Info": {`{"acc":"HUB","user":"hub"}`}, "Nats-Subject": {"up.victim.hb"}},
		"have the answer expected":         {"Nats-Expected-Last-Sequence": {"0"}, "Nats-Msg-Id": {"x"}},
		"reply by a header":                {"Reply-To": {"down.victim.intent"}, "Nats-Reply": {"down.victim.intent"}},
		"send headers that are all weight": {"X": {strings.Repeat("x", 200<<10)}},
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			inbox, err := a.SubscribeSync(wire.Inbox(x.cluster) + ".h")
			x.must(err)
			a.seq++
			data, err := wire.Encode(a.status(web, "own"))
			x.must(err)
			x.must(a.PublishMsg(&nats.Msg{Subject: wire.StatusSubject(x.cluster, web), Reply: wire.Inbox(x.cluster) + ".h", Header: header, Data: data}))
			answer, err := inbox.NextMsg(2 * time.Second)
			if err == nil && len(answer.Header) > 0 {
				x.Errorf("the answer has headers: %v", answer.Header)
			}
			x.settle(a)
			for _, m := range x.messages() {
				if bytes.Contains(m, []byte("Nats-")) || bytes.Contains(m, []byte("xxxx")) {
					x.Errorf("a header reached the hub's state: %s", m)
				}
			}
			return errDropped
		}})
	}
	return all
}

// messages are what is known of the attacker's apps.
func (x *attacker) messages() (out [][]byte) {
	x.Helper()
	apps, err := x.people().Apps(x.Context(), fleet.AppFilter{Clusters: []string{x.cluster}})
	x.must(err)
	for _, a := range apps {
		out = append(out, []byte(a.App+a.Message))
	}
	return out
}
