package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// sendsBadDocuments: an enrolled agent sends, where it may, what it may not.
func sendsBadDocuments() []attack {
	const app = `{"namespace":"shop","app":"web","sync":"Synced","health":"Healthy"`
	report := func(body string) string { return `{"v":1,"kind":"report","body":` + body + `}` }
	var all []attack
	for name, data := range map[string]string{
		"send nothing":                       "",
		"send what is not JSON":              "rubbish",
		"send a document cut short":          report(`{"epoch":1,"seq":2,"app":`),
		"send two documents at once":         report(`{"epoch":1,"seq":2,"app":`+app+`}}`) + `{}`,
		"send a list":                        `[1,2,3]`,
		"send an unknown version":            strings.Replace(report(`{"epoch":1,"seq":2,"app":`+app+`}}`), `"v":1`, `"v":99`, 1),
		"send an unknown kind":               strings.Replace(report(`{"epoch":1,"seq":2,"app":`+app+`}}`), `"report"`, `"sudo"`, 1),
		"send the hub's own kind":            `{"v":1,"kind":"intent","body":{"intent":{"instance":"x","revision":9}}}`,
		"send a failure":                     `{"v":1,"kind":"failure","body":{"kind":"conflict","message":"you"}}`,
		"send a field twice":                 report(`{"epoch":1,"seq":2,"app":` + app + `,"app":"other"}}`),
		"send a body twice":                  `{"v":1,"kind":"report","body":{},"body":{"epoch":1,"seq":2,"app":` + app + `}}}`,
		"send an unknown field around it":    `{"v":1,"kind":"report","as":"hub","body":{"epoch":1,"seq":2,"app":` + app + `}}}`,
		"send what is nested deep":           report(`{"epoch":1,"seq":2,"app":` + app + `,"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`),
		"send what is not UTF-8":             report("{\"epoch\":1,\"seq\":2,\"app\":" + app + ",\"message\":\"\xff\xfe\"}}"),
		"send more than a report may take":   report(`{"epoch":1,"seq":2,"app":` + app + `,"message":"` + strings.Repeat("x", 9<<10) + `"}}`),
		"send a number that is too large":    report(`{"epoch":1,"seq":99999999999999999999,"app":` + app + `}}`),
		"send a number below zero":           report(`{"epoch":1,"seq":-1,"app":` + app + `}}`),
		"send epoch zero":                    report(`{"epoch":0,"seq":2,"app":` + app + `}}`),
		"send a sync that is none":           report(`{"epoch":1,"seq":2,"app":` + strings.Replace(app, "Synced", "Rooted", 1) + `}}`),
		"send an app that is gone and there": report(`{"epoch":1,"seq":2,"gone":{"namespace":"shop","name":"web"},"app":` + app + `}}`),
		"send a report of another app":       report(`{"epoch":1,"seq":2,"app":` + strings.Replace(app, `"web"`, `"api"`, 1) + `}}`),
		"send an app named with a dot":       report(`{"epoch":1,"seq":2,"app":` + strings.Replace(app, `"web"`, `"web.x"`, 1) + `}}`),
		"send an app named with a wildcard":  report(`{"epoch":1,"seq":2,"app":` + strings.Replace(app, `"web"`, `"*"`, 1) + `}}`),
		"send an app in a path":              report(`{"epoch":1,"seq":2,"app":` + strings.Replace(app, `"shop"`, `"../victim"`, 1) + `}}`),
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			_, err := sayRaw[wire.Ack](a, wire.StatusSubject(x.cluster, web), []byte(data))
			if got := x.own(); got != "" {
				x.Errorf("it was carried out: %s", got)
			}
			return err
		}})
	}
	return append(append(all, badSubjects()...), badHeartbeats()...)
}

// badSubjects: below its own name an agent may publish anything.
func badSubjects() []attack {
	var all []attack
	for name, rest := range map[string]string{
		"report on no app":               "status",
		"report on half an app":          "status.shop",
		"report on more than an app":     "status.shop.web.x",
		"report on an app with capitals": "status.shop.Web",
		"report on an app of 300 bytes":  "status.shop." + strings.Repeat("a", 300),
		"report on a wildcard":           "status.*.*",
		"report on everything":           "status.>",
		"use a verb that is none":        "purge",
		"use a verb with a tail":         "hb.victim",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			a.seq++
			data, err := wire.Encode(a.status(web, "own"))
			x.must(err)
			x.must(a.PublishRequest("up."+x.cluster+"."+rest, wire.Inbox(x.cluster)+".r", data))
			return x.dropped(a)
		}})
	}
	return all
}

func badHeartbeats() []attack {
	var all []attack
	for name, body := range map[string]string{
		"beat so seldom that nothing is stale": `{"epoch":2,"cluster":{"interval":360000000000000}}`,
		"beat with no interval":                `{"epoch":2,"cluster":{}}`,
		"beat with an interval below zero":     `{"epoch":2,"cluster":{"interval":-1}}`,
		"declare a label that is none":         `{"epoch":2,"cluster":{"interval":10000000000,"declared":{"../x":"y"}}}`,
		"let a label be assigned that is none": `{"epoch":2,"cluster":{"interval":10000000000,"assignable":["a b"]}}`,
		"beat with 100 KiB":                    `{"epoch":2,"cluster":{"interval":10000000000,"message":"` + strings.Repeat("x", 100<<10) + `"}}`,
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			_, err := sayRaw[wire.HeartbeatAck](a, wire.HeartbeatSubject(x.cluster), []byte(`{"v":1,"kind":"heartbeat","body":`+body+`}`))
			return err
		}})
	}
	return append(all, attack{"report as another in the document", func(x *attacker) error {
		a := x.agent()
		a.seq++
		r := a.status(web, "own")
		r.App.Cluster = "victim"
		_, err := say[wire.Ack](a, wire.StatusSubject(x.cluster, web), r)
		x.must(err)
		if got := x.own(); got != "web=own" {
			x.Errorf("the hub has %q", got)
		}
		return errors.New("it was filed under the name of who sent it")
	}}, attack{"claim another's key", func(x *attacker) error {
		a := x.agent()
		_, err := say[wire.HeartbeatAck](a, wire.HeartbeatSubject(x.cluster), wire.Heartbeat{Epoch: 2, Cluster: fleet.ClusterReport{
			UID: "uid-victim", AgentKey: x.want.Cluster.AgentKey, Interval: time.Minute,
		}})
		x.must(err)
		got, err := x.people().Clusters(x.Context(), fleet.ClusterFilter{Names: []string{x.cluster}})
		x.must(err)
		if got[0].AgentKey == x.want.Cluster.AgentKey {
			x.Error("the hub believes it")
		}
		return errors.New("the hub goes by the key that was enrolled")
	}}, attack{"drive a terminal", func(x *attacker) error {
		a := x.agent()
		x.must(a.report(web, "\x1b]0;owned\x07\u202eevil"))
		if got := x.own(); strings.ContainsAny(got, "\x1b\x07\u202e") {
			x.Errorf("the hub passes on %q", got)
		}
		return errors.New("what controls a terminal was taken out")
	}})
}

// sendsOldReports: an enrolled agent replays and reorders.
func sendsOldReports() []attack {
	var all []attack
	for name, r := range map[string]struct{ epoch, seq uint64 }{
		"replay a report":                   {5, 5},
		"send a report that is older":       {5, 4},
		"send a report of an earlier epoch": {4, 9},
		"send a report of an epoch to come": {6, 1},
		"send a report of the last epoch":   {1<<64 - 1, 1<<64 - 1},
	} {
		all = append(all, attack{name, func(x *attacker) error {
			a := x.agent()
			a.epoch, a.seq = 5, 4
			x.must(a.hello())
			x.must(a.report(web, "current"))
			a.epoch, a.seq = r.epoch, r.seq-1
			err := a.report(web, "old")
			if got := x.own(); got != "web=current" {
				x.Errorf("the hub has %q", got)
			}
			return err
		}})
	}
	return append(all, attack{"bring an app back that is gone", func(x *attacker) error {
		a := x.agent()
		x.must(a.report(web, "there"))
		_, err := say[wire.Ack](a, wire.StatusSubject(x.cluster, web), wire.Report{Epoch: 1, Seq: 9, Gone: &web})
		x.must(err)
		return a.report(web, "back")
	}}, attack{"end an epoch that is not its own", func(x *attacker) error {
		a := x.agent()
		x.must(a.report(web, "there"))
		_, err := say[wire.Ack](a, wire.ResentSubject(x.cluster), wire.Resent{Epoch: 7})
		if got := x.own(); got != "web=there" {
			x.Errorf("the hub has %q", got)
		}
		return err
	}})
}

// takesMoreThanItsShare: an enrolled agent uses what it may, without end.
func takesMoreThanItsShare() []attack {
	return []attack{
		{"report more apps than anybody has", func(x *attacker) error {
			a := x.agent()
			return x.flood(a, func(i int) wire.Report {
				return a.status(fleet.AppName{Namespace: "shop", Name: fmt.Sprintf("a%d", i)}, "")
			})
		}},
		{"keep more than its share", func(x *attacker) error {
			a := x.agent()
			return x.flood(a, func(i int) wire.Report {
				return a.status(fleet.AppName{Namespace: "shop", Name: fmt.Sprintf("a%d", i)}, strings.Repeat("x", 7000))
			})
		}},
		{"say more than its share", func(x *attacker) error {
			a := x.agent()
			return x.flood(a, func(int) wire.Report { return a.status(web, "again") })
		}},
		{"ask for its intent without end", func(x *attacker) error {
			a := x.agent()
			data, err := wire.Encode(wire.IntentGet{})
			x.must(err)
			return x.pour(a, func(int) (string, []byte) { return wire.IntentGetSubject(x.cluster), data })
		}},
		{"subscribe without end", func(x *attacker) error {
			a := x.agent()
			for i := range 200 {
				if _, err := a.SubscribeSync(fmt.Sprintf("down.%s.x%d", x.cluster, i)); err != nil {
					return err
				}
			}
			return x.refusal(a)
		}},
		{"send more than a message may hold", func(x *attacker) error {
			a := x.agent()
			if err := a.Publish(wire.HeartbeatSubject(x.cluster), make([]byte, 300<<10)); err != nil {
				return err
			}
			return x.refusal(a)
		}},
		{"connect without end", func(x *attacker) error {
			a := x.agent()
			for range 100 {
				more, err := x.connect(a.jwt, a.key, wire.Inbox(x.cluster))
				if err == nil {
					err = more.Flush()
				}
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"answer with pieces that do not fit", func(x *attacker) error {
			return x.answering(wire.Part{ETag: "e", Total: 10, Data: []byte("abc")}, wire.Part{ETag: "e", Total: 10, Data: make([]byte, 9)})
		}},
		{"answer without end", func(x *attacker) error {
			return x.answering(wire.Part{ETag: "e", Total: wire.MaxAnswer, Data: nil})
		}},
		{"answer with what is not asked for", func(x *attacker) error {
			return x.answering(wire.Part{ETag: "e", Total: 9, Data: []byte(`{"a":"b"}`)})
		}},
	}
}

// flood sends reports until one is refused.
func (x *attacker) flood(a *agent, report func(i int) wire.Report) error {
	x.Helper()
	return x.pour(a, func(i int) (string, []byte) {
		a.seq++
		r := report(i)
		data, err := wire.Encode(r)
		x.must(err)
		return wire.StatusSubject(x.cluster, r.Name()), data
	})
}

// pour sends requests as fast as it can, until one is refused.
func (x *attacker) pour(a *agent, next func(i int) (string, []byte)) error {
	x.Helper()
	const most, atOnce = 30000, 500
	inbox := wire.Inbox(x.cluster) + ".flood"
	answers, err := a.SubscribeSync(inbox)
	x.must(err)
	defer answers.Unsubscribe()
	x.must(answers.SetPendingLimits(-1, -1))
	for sent := 0; sent < most; {
		for range atOnce {
			subject, data := next(sent)
			x.must(a.PublishRequest(subject, inbox, data))
			sent++
		}
		for range atOnce {
			m, err := answers.NextMsg(10 * time.Second)
			if err != nil {
				return err
			}
			if _, err := wire.Decode[wire.Failure](m.Data); err == nil {
				_, err := wire.Decode[wire.Ack](m.Data)
				return err
			}
		}
	}
	return nil
}

// answering answers a question of the hub's people with the parts, the last of
// them again and again, and returns what they are told.
func (x *attacker) answering(parts ...wire.Part) error {
	x.Helper()
	a := x.agent()
	x.must(a.report(web, "own"))
	i := 0
	_, err := a.Subscribe(wire.AskSubject(x.cluster), func(m *nats.Msg) {
		data, err := wire.Encode(parts[min(i, len(parts)-1)])
		if i++; err == nil {
			_ = m.Respond(data) // cut off: the attack is over
		}
	})
	x.must(err)
	x.must(a.Flush())
	_, err = x.people().Tree(x.Context(), x.cluster, web)
	return err
}
