package hub_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// abusesTokens: whoever holds a join token wants more than to enrol, once.
func abusesTokens() []attack {
	var all []attack
	for name, subject := range map[string]string{
		"report with a join token":           wire.StatusSubject("victim", web),
		"beat with a join token":             wire.HeartbeatSubject("victim"),
		"tell another with a join token":     wire.IntentSubject("victim"),
		"enrol with another's join":          wire.EnrolSubject("abcdef"),
		"tell of a push with a join token":   wire.GitSubject,
		"reach a bucket with a join token":   "$JS.API.INFO",
		"reach the system with a join token": "$SYS.REQ.SERVER.PING",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			j := x.joiner(x.token(x.cluster, 0))
			x.must(j.Publish(subject, []byte("forged")))
			return x.refusal(j)
		}})
	}
	for name, subject := range map[string]string{
		"listen to all with a join token":          ">",
		"listen to other joins":                    "_INBOX_join_*.>",
		"listen to an agent with a join token":     "down.victim.>",
		"listen to an inbox with a join token":     "_INBOX_victim.>",
		"listen to enrolments with a join token":   "enroll.>",
		"listen to all pushes with a join token":   "all.>",
		"listen to the system with a join token":   "$SYS.>",
		"listen to its own join with a join token": "enroll.OWN",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			token := x.token(x.cluster, 0)
			j := x.joiner(token)
			if _, err := j.SubscribeSync(strings.ReplaceAll(subject, "OWN", token.Join)); err != nil {
				return err
			}
			return x.refusal(j)
		}})
	}
	return append(append(all, badEnrolments()...), spentTokens()...)
}

func badEnrolments() []attack {
	var all []attack
	for name, make := range map[string]func(x *attacker, join string) wire.Enrol{
		"enrol another's key": func(x *attacker, join string) wire.Enrol {
			own, _ := x.newKey()
			pub := x.want.Cluster.AgentKey
			proof, err := own.Sign(wire.EnrolProof(join, pub))
			x.must(err)
			return wire.Enrol{Key: pub, Proof: proof}
		},
		"enrol with a proof for another join": func(x *attacker, _ string) wire.Enrol {
			own, pub := x.newKey()
			proof, err := own.Sign(wire.EnrolProof("another", pub))
			x.must(err)
			return wire.Enrol{Key: pub, Proof: proof}
		},
		"enrol without a proof": func(x *attacker, _ string) wire.Enrol {
			_, pub := x.newKey()
			return wire.Enrol{Key: pub, Proof: []byte("trust me")}
		},
		"enrol an account's key": func(x *attacker, join string) wire.Enrol {
			key, err := nkeys.CreateAccount()
			x.must(err)
			pub, err := key.PublicKey()
			x.must(err)
			proof, err := key.Sign(wire.EnrolProof(join, pub))
			x.must(err)
			return wire.Enrol{Key: pub, Proof: proof}
		},
		"enrol what is no key": func(*attacker, string) wire.Enrol { return wire.Enrol{Key: "U*", Proof: []byte("x")} },
	} {
		all = append(all, attack{name, func(x *attacker) error {
			token := x.token(x.cluster, 0)
			_, err := say[wire.Enrolled](x.joiner(token), wire.EnrolSubject(token.Join), make(x, token.Join))
			return err
		}})
	}
	return append(all, attack{"have an enrolment answered elsewhere", func(x *attacker) error {
		token := x.token(x.cluster, 0)
		j := x.joiner(token)
		key, pub := x.newKey()
		proof, err := key.Sign(wire.EnrolProof(token.Join, pub))
		x.must(err)
		data, err := wire.Encode(wire.Enrol{Key: pub, Proof: proof})
		x.must(err)
		for _, reply := range []string{"_INBOX_victim.x", "down.victim.intent", "$KV.clusters.victim", "_INBOX_join_" + token.Join} {
			x.must(j.PublishRequest(wire.EnrolSubject(token.Join), reply, data))
		}
		// Had one been carried out, the token were used now.
		another, _ := x.newKey()
		_, err = x.enrol(j, token.Join, another)
		x.must(err)
		return errDropped
	}}, attack{"enrol with a token that is all weight", func(x *attacker) error {
		token := x.token(x.cluster, 0)
		j := x.joiner(token)
		if err := j.Publish(wire.EnrolSubject(token.Join), make([]byte, 8<<10)); err != nil {
			return err
		}
		return x.refusal(j)
	}}, attack{"enrol without end", func(x *attacker) error {
		token := x.token(x.cluster, 0)
		j := x.joiner(token)
		for range 100 {
			_, err := say[wire.Enrolled](j, wire.EnrolSubject(token.Join), wire.Enrol{Key: "U", Proof: []byte("x")})
			if errors.Is(err, fleet.ErrUnavailable) {
				return err
			}
		}
		return nil
	}}, attack{"join under a wildcard", func(x *attacker) error {
		_, err := x.people().Join(x.Context(), "*", 0)
		return err
	}}, attack{"join under another's name", func(x *attacker) error {
		_, err := x.people().Join(x.Context(), "victim", 0)
		return err
	}})
}

func spentTokens() []attack {
	return []attack{
		{"use a token twice", func(x *attacker) error {
			token := x.token(x.cluster, 0)
			j := x.joiner(token)
			first, _ := x.newKey()
			second, _ := x.newKey()
			_, err := x.enrol(j, token.Join, first)
			x.must(err)
			_, err = x.enrol(j, token.Join, second)
			return err
		}},
		{"use a second token of a cluster that has joined", func(x *attacker) error {
			first, second := x.token(x.cluster, 0), x.token(x.cluster, 0)
			key, _ := x.newKey()
			_, err := x.enrol(x.joiner(first), first.Join, key)
			x.must(err)
			other, _ := x.newKey()
			_, err = x.enrol(x.joiner(second), second.Join, other)
			return err
		}},
		{"use a token that has expired", func(x *attacker) error {
			token := x.token(x.cluster, time.Second)
			j := x.joiner(token)
			x.until("the token's connection is cut", j.IsClosed)
			key, err := nkeys.FromSeed([]byte(token.Seed))
			x.must(err)
			again, err := x.connect(token.JWT, key, wire.JoinInbox(token.Join))
			if err == nil { // expiry counts in whole seconds: it is let in for the rest of one
				x.until("it is cut again", again.IsClosed)
				err = again.LastError()
			}
			return err
		}},
		{"use a token that was taken back", func(x *attacker) error {
			token := x.token(x.cluster, 0)
			j := x.joiner(token)
			x.must(x.people().RemoveCluster(x.Context(), x.cluster))
			key, _ := x.newKey()
			_, err := x.enrol(j, token.Join, key)
			return err
		}},
		{"use a token of a cluster that was removed", func(x *attacker) error {
			token := x.token(x.cluster, 0)
			j := x.joiner(token)
			key, _ := x.newKey()
			_, err := x.enrol(j, token.Join, key)
			x.must(err)
			x.must(x.people().RemoveCluster(x.Context(), x.cluster))
			_, err = x.enrol(j, token.Join, key)
			return err
		}},
	}
}

// until waits for what the server brings about.
func (x *attacker) until(what string, is func() bool) {
	x.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if <-tick.C; time.Now().After(deadline) {
			x.Fatalf("never: %s", what)
		}
	}
}

// abusesCredentials: an agent wants to be another, or to be after it was cut.
func abusesCredentials() []attack {
	all := []attack{
		{"renew for another's key", func(x *attacker) error {
			_, err := say[wire.Renewed](x.agent(), wire.RenewSubject(x.cluster), wire.Renew{Key: x.want.Cluster.AgentKey})
			return err
		}},
		{"renew for a key of nobody", func(x *attacker) error {
			_, pub := x.newKey()
			_, err := say[wire.Renewed](x.agent(), wire.RenewSubject(x.cluster), wire.Renew{Key: pub})
			return err
		}},
		{"stay after it was removed", func(x *attacker) error {
			a := x.agent()
			x.must(x.people().RemoveCluster(x.Context(), x.cluster))
			x.until("the connection is cut", a.IsClosed)
			_, err := x.connect(a.jwt, a.key, wire.Inbox(x.cluster))
			return err
		}},
		{"report after it was removed", func(x *attacker) error {
			a := x.agent()
			x.must(a.report(web, "there"))
			x.must(x.people().RemoveCluster(x.Context(), x.cluster))
			err := a.report(web, "zombie")
			if got := x.own(); got != "" {
				x.Errorf("the hub has %q", got)
			}
			return err
		}},
		{"use another's credential without its key", func(x *attacker) error {
			key, _ := x.newKey()
			_, err := x.connect(x.victim.jwt, key, wire.Inbox("victim"))
			return err
		}},
		{"use another's inbox with its own credential", func(x *attacker) error {
			a := x.agent()
			as, err := x.connect(a.jwt, a.key, wire.Inbox("victim"))
			x.must(err)
			_, err = as.SubscribeSync(as.NewInbox())
			x.must(err)
			return x.refusal(as)
		}},
		{"sign a credential with its own key", func(x *attacker) error {
			a := x.agent()
			key, pub := x.newKey()
			c := jwt.NewUserClaims(pub)
			c.Name = "victim"
			token, err := c.Encode(a.key)
			if err != nil { // the library knows better; the attacker does not care
				token = x.edit(a, a.key, func(claims map[string]any) { claims["sub"], claims["name"] = pub, "victim" })
			}
			_, err = x.connect(token, key, wire.Inbox("victim"))
			return err
		}},
	}
	for name, change := range map[string]func(claims map[string]any){
		"edit the name in its credential":    func(c map[string]any) { c["name"] = "victim" },
		"edit the account in its credential": func(c map[string]any) { c["nats"].(map[string]any)["issuer_account"] = "HUB" },
		"edit the expiry of its credential":  func(c map[string]any) { c["exp"] = time.Now().Add(time.Hour * 1e5).Unix() },
		"edit permissions into a credential": func(c map[string]any) { c["nats"].(map[string]any)["pub"] = map[string]any{"allow": []string{">"}} },
		"edit the name into a wildcard":      func(c map[string]any) { c["name"] = "*" },
		"edit a bearer into a credential":    func(c map[string]any) { c["nats"].(map[string]any)["bearer_token"] = true },
		"edit the kind of connection allowed": func(c map[string]any) {
			c["nats"].(map[string]any)["allowed_connection_types"] = []string{"IN_PROCESS"}
		},
	} {
		for how, sign := range map[string]func(x *attacker, a *agent) nkeys.KeyPair{
			"":                         func(*attacker, *agent) nkeys.KeyPair { return nil }, // the signature it had
			", signed by itself":       func(_ *attacker, a *agent) nkeys.KeyPair { return a.key },
			", signed by some account": func(x *attacker, _ *agent) nkeys.KeyPair { return x.account() },
		} {
			all = append(all, attack{name + how, func(x *attacker) error {
				a := x.agent()
				_, err := x.connect(x.edit(a, sign(x, a), change), a.key, wire.Inbox("victim"))
				return err
			}})
		}
	}
	return all
}

func (x *attacker) account() nkeys.KeyPair {
	x.Helper()
	key, err := nkeys.CreateAccount()
	x.must(err)
	return key
}

// edit changes what an agent's credential says, and signs it if it can.
func (x *attacker) edit(a *agent, signer nkeys.KeyPair, change func(claims map[string]any)) string {
	x.Helper()
	parts := strings.Split(a.jwt, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	x.must(err)
	var claims map[string]any
	x.must(json.Unmarshal(raw, &claims))
	change(claims)
	if signer != nil {
		pub, err := signer.PublicKey()
		x.must(err)
		claims["iss"] = pub
	}
	raw, err = json.Marshal(claims)
	x.must(err)
	text := parts[0] + "." + base64.RawURLEncoding.EncodeToString(raw)
	signature := parts[2]
	if signer != nil {
		sig, err := signer.Sign([]byte(text))
		x.must(err)
		signature = base64.RawURLEncoding.EncodeToString(sig)
	}
	return text + "." + signature
}
