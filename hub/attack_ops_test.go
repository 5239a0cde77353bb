package hub_test

import (
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// ops connects with a credential of the account OPS.
func (x *attacker) ops(life time.Duration) (*agent, error) {
	x.Helper()
	x.token(x.cluster, 0) // tells what to trust
	creds, err := hub.OpsCredentials(filepath.Join(x.dir, "keys"), "mallory", life, time.Now())
	x.must(err)
	token, err := jwt.ParseDecoratedJWT(creds)
	x.must(err)
	key, err := jwt.ParseDecoratedUserNKey(creds)
	x.must(err)
	return x.connect(token, key, "_INBOX")
}

func (x *attacker) mustOps() *agent {
	x.Helper()
	o, err := x.ops(time.Hour)
	x.must(err)
	return o
}

// asksTooMuch: who may ask how the fleet is wants to see or do something else.
func asksTooMuch() []attack {
	all := []attack{{"ask with an ops credential that was taken back", func(x *attacker) error {
		o := x.mustOps()
		pub, err := o.key.PublicKey()
		x.must(err)
		x.must(hub.RevokeOps(filepath.Join(x.dir, "keys"), pub, time.Now()))
		deadline := time.After(20 * time.Second)
		for {
			_, err := x.connect(o.jwt, o.key, "_INBOX")
			if err != nil {
				return err
			}
			select {
			case <-time.After(100 * time.Millisecond): // the hub looks every other second
			case <-deadline:
				return nil
			}
		}
	}}}
	for name, subject := range map[string]string{
		"report with an ops credential":                      wire.StatusSubject("victim", web),
		"beat with an ops credential":                        wire.HeartbeatSubject("victim"),
		"ask for an intent with an ops credential":           wire.IntentGetSubject("victim"),
		"renew with an ops credential":                       wire.RenewSubject("victim"),
		"tell a cluster with an ops credential":              wire.IntentSubject("victim"),
		"ask a cluster with an ops credential":               wire.AskSubject("victim"),
		"tell of a push with an ops credential":              wire.GitSubject,
		"enrol with an ops credential":                       wire.EnrolSubject("abcdef"),
		"read a bucket with an ops credential":               "$JS.API.DIRECT.GET.KV_tokens",
		"reach JetStream with an ops credential":             "$JS.API.INFO",
		"write a bucket with an ops credential":              "$KV.intent.victim",
		"reach the system with an ops credential":            "$SYS.REQ.SERVER.PING",
		"change claims with an ops credential":               "$SYS.REQ.CLAIMS.UPDATE",
		"answer another with an ops credential":              "_INBOX.another.1",
		"answer into the hub's inbox with an ops credential": "_INBOX_hub.x",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			o := x.mustOps()
			x.must(o.Publish(subject, []byte("forged")))
			return x.refusal(o)
		}})
	}
	for name, subject := range map[string]string{
		"listen to all with an ops credential":        ">",
		"listen to agents with an ops credential":     "up.>",
		"listen to clusters with an ops credential":   "down.victim.>",
		"listen to questions with an ops credential":  "capstan.>",
		"serve in the hub's place":                    "capstan.apps",
		"listen to the system with an ops credential": "$SYS.>",
		"listen to a bucket with an ops credential":   "$KV.>",
		"listen to an agent with an ops credential":   "_INBOX_victim.>",
		"listen to a join with an ops credential":     "_INBOX_join_*.>",
		"pretend to be a service":                     "$SRV.PING",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			o := x.mustOps()
			if _, err := o.SubscribeSync(subject); err != nil {
				return err
			}
			return x.refusal(o)
		}})
	}
	return append(append(all, opsDetours()...), opsCredentials()...)
}

// opsDetours have the hub or the server do what OPS may not do itself.
func opsDetours() []attack {
	return []attack{
		{"have a question answered elsewhere", func(x *attacker) error {
			o := x.mustOps()
			for _, reply := range []string{"down.victim.intent", "_INBOX_victim.x", "$KV.intent.victim", "$JS.API.STREAM.PURGE.KV_intent", "capstan.apps", "all.git"} {
				for _, to := range []string{"capstan.clusters", "$SRV.INFO.capstan"} {
					x.must(o.PublishRequest(to, reply, nil))
				}
			}
			x.must(x.refusalOfNone(o))
			return errDropped // what the victim heard, and has, the fort looks at
		}},
		{"change something over NATS", func(x *attacker) error {
			return x.asked(x.mustOps(), "capstan.label", `{"cluster":"victim","set":{"env":"dev"}}`)
		}},
		{"ask for what is not served", func(x *attacker) error { return x.asked(x.mustOps(), "capstan.tokens", "") }},
		{"ask with a parameter that nobody knows", func(x *attacker) error { return x.asked(x.mustOps(), "capstan.apps", `{"selectr":"env=prod"}`) }},
		{"ask for a path", func(x *attacker) error { return x.asked(x.mustOps(), "capstan.apps", `"../tokens"`) }},
		{"ask with all weight", func(x *attacker) error {
			o := x.mustOps()
			if err := o.Publish("capstan.apps", make([]byte, 64<<10)); err != nil {
				return err
			}
			return x.refusal(o)
		}},
		{"ask without end", func(x *attacker) error {
			// Several at once, so that a slow machine asks too often as well.
			askers := []*agent{x.mustOps(), x.mustOps(), x.mustOps(), x.mustOps()}
			refused := make(chan error, len(askers))
			var all sync.WaitGroup
			for _, o := range askers {
				all.Go(func() {
					for range 500 {
						if err := x.asked(o, "capstan.clusters", ""); err != nil {
							refused <- err
							return
						}
					}
				})
			}
			all.Wait()
			close(refused)
			x.until("others are answered again", func() bool { return x.asked(askers[0], "capstan.clusters", "") == nil })
			return <-refused
		}},
	}
}

func opsCredentials() []attack {
	return []attack{
		{"use an ops credential that has expired", func(x *attacker) error {
			o, err := x.ops(time.Second)
			if err != nil {
				return err
			}
			x.until("it is cut", o.IsClosed)
			return o.LastError()
		}},
		{"edit an ops credential into an agent's", func(x *attacker) error {
			o := x.mustOps()
			forged := x.edit(o, nil, func(c map[string]any) { c["nats"].(map[string]any)["issuer_account"], c["name"] = "AGENTS", "victim" })
			_, err := x.connect(forged, o.key, wire.Inbox("victim"))
			return err
		}},
		{"ask how the fleet is as an agent", func(x *attacker) error {
			a := x.agent()
			x.must(a.Publish("capstan.apps", nil))
			return x.refusal(a)
		}},
		{"look for services as an agent", func(x *attacker) error {
			a := x.agent()
			x.must(a.Publish("$SRV.PING", nil))
			return x.refusal(a)
		}},
		{"ask how the fleet is with a join token", func(x *attacker) error {
			j := x.joiner(x.token(x.cluster, 0))
			x.must(j.Publish("capstan.apps", nil))
			return x.refusal(j)
		}},
		{"ask how the fleet is as a stranger", func(x *attacker) error {
			key, err := nkeys.CreateUser()
			x.must(err)
			token := x.edit(x.mustOps(), x.account(), func(map[string]any) {})
			_, err = x.connect(token, key, "_INBOX")
			return err
		}},
	}
}

// asked is nil where a question was answered.
func (x *attacker) asked(o *agent, subject, params string) error {
	x.Helper()
	m, err := o.Request(subject, []byte(params), 10*time.Second)
	if err != nil {
		return err
	}
	if e := m.Header.Get("Nats-Service-Error"); e != "" {
		return errors.New(e + ": " + string(m.Data))
	}
	return nil
}

// refusalOfNone waits until the hub has dealt with what was sent, whatever the
// server said of it.
func (x *attacker) refusalOfNone(o *agent) error {
	x.Helper()
	err := x.asked(o, "capstan.clusters", "")
	if errors.Is(err, nats.ErrTimeout) {
		return err
	}
	return nil
}
