package hub_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
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

// comesAsAStranger: somebody who has nothing but the address.
func comesAsAStranger() []attack {
	var all []attack
	dial := func(opts ...nats.Option) func(x *attacker) error {
		return func(x *attacker) error {
			x.token(x.cluster, 0) // the CA is no secret
			nc, err := nats.Connect(x.urls[x.over], append(opts, nats.Secure(x.trust), nats.NoReconnect())...)
			if err == nil {
				nc.Close()
			}
			return err
		}
	}
	all = append(all,
		attack{"come with nothing", dial()},
		attack{"come with a password", dial(nats.UserInfo("admin", "admin"))},
		attack{"come with a token", dial(nats.Token("admin"))},
		attack{"come without TLS", func(x *attacker) error {
			u, err := url.Parse(x.urls[x.over])
			x.must(err)
			scheme := map[string]string{"tls": "nats://", "wss": "ws://"}[x.over]
			key, _ := x.newKey()
			nc, err := nats.Connect(scheme+u.Host, nats.NoReconnect(), nats.UserJWT(func() (string, error) { return x.victim.jwt, nil }, key.Sign))
			if err == nil {
				nc.Close()
			}
			return err
		}},
		attack{"come with another CA's certificate", func(x *attacker) error {
			nc, err := nats.Connect(x.urls[x.over], nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}), nats.NoReconnect())
			if err == nil {
				nc.Close()
			}
			return err
		}},
		attack{"come with a bare key", func(x *attacker) error {
			x.token(x.cluster, 0)
			key, pub := x.newKey()
			return dial(nats.Nkey(pub, key.Sign))(x)
		}},
	)
	for name, account := range map[string]string{"the hub's account": "HUB", "the system's account": "SYS", "the agents' account": "AGENTS"} {
		all = append(all, attack{"make a credential for " + name, func(x *attacker) error {
			x.token(x.cluster, 0)
			signer := x.account()
			key, pub := x.newKey()
			c := jwt.NewUserClaims(pub)
			c.Name, c.IssuerAccount = account, issuerOf(x.victim.jwt)
			token, err := c.Encode(signer)
			x.must(err)
			_, err = x.connect(token, key, "_INBOX_hub")
			return err
		}})
	}
	for name, line := range map[string]string{
		"publish before it has said who it is":   "PUB up.victim.hb 2\r\n{}\r\n",
		"subscribe before it has said who it is": "SUB > 1\r\n",
		"talk rubbish":                           "\x00\x01\x02\xff\xfe rubbish\r\n",
		"talk HTTP":                              "GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
		"talk without end":                       strings.Repeat("A", 1<<20),
		"claim to be a route":                    "CONNECT {\"verbose\":false,\"server_id\":\"x\",\"name\":\"x\"}\r\nRS+ AGENTS >\r\n",
		"claim to be a leaf":                     "CONNECT {\"is_leafnode\":true,\"remote_account\":\"HUB\"}\r\nLS+ >\r\n",
	} {
		all = append(all, attack{name, func(x *attacker) error {
			r := x.raw()
			defer r.Close()
			return r.say(x, line)
		}})
	}
	return append(append(all, webStrangers()...), attack{"say nothing, many times", func(x *attacker) error {
		for range 200 {
			r := x.raw()
			x.Cleanup(func() { r.Close() }) // after it is seen how the hub stands
		}
		return errors.New("they wait for nothing, and nobody for them")
	}})
}

func issuerOf(token string) string {
	c, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return ""
	}
	return c.IssuerAccount
}

// webStrangers come with a browser, or with another protocol over WebSocket.
func webStrangers() []attack {
	var all []attack
	for name, c := range map[string]struct {
		path   string
		header map[string]string
		status int
	}{
		"come from another page":                {"/", map[string]string{"Origin": "https://evil.example.com"}, http.StatusForbidden},
		"come with a version that is none":      {"/", map[string]string{"Sec-WebSocket-Version": "99"}, http.StatusBadRequest},
		"come with a cookie for a credential":   {"/", map[string]string{"Cookie": "jwt=x", "Origin": "null"}, 0},
		"come as a leaf over WebSocket":         {"/leafnode", nil, 0},
		"come as a device over WebSocket":       {"/mqtt", nil, 0},
		"come over HTTP to the WebSocket's end": {"/varz", map[string]string{"Upgrade": ""}, http.StatusBadRequest},
	} {
		all = append(all, attack{name, func(x *attacker) error {
			x.token(x.cluster, 0)
			tr := &http.Transport{TLSClientConfig: x.trust, DisableKeepAlives: true}
			req, err := http.NewRequestWithContext(x.Context(), http.MethodGet, strings.Replace(x.urls["wss"], "wss", "https", 1)+c.path, http.NoBody)
			x.must(err)
			for k, v := range map[string]string{
				"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
				"Sec-WebSocket-Key": base64.StdEncoding.EncodeToString(make([]byte, 16)),
			} {
				req.Header.Set(k, v)
			}
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if c.status != 0 && resp.StatusCode != c.status {
				x.Errorf("got %s, want %d", resp.Status, c.status)
			}
			if resp.StatusCode != http.StatusSwitchingProtocols {
				return errors.New(resp.Status)
			}
			return nothingHeard(resp.Body.(io.ReadWriteCloser))
		}})
	}
	return all
}

// nothingHeard says that a connection was let go, or hears no more than a
// greeting: who has not said who they are is told nothing.
func nothingHeard(c io.ReadWriteCloser) error {
	defer c.Close()
	if _, err := c.Write([]byte("\x82\x8f\x00\x00\x00\x00SUB > 1\r\nPING\r\n")); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(c, 64<<10))
	if strings.Contains(string(text), "MSG ") || strings.Contains(string(text), "PONG") {
		return nil
	}
	return fmt.Errorf("let go after %d bytes: %w", len(text), errors.Join(err, io.EOF))
}

// raw is a connection that speaks NATS as it likes.
type raw struct {
	net.Conn
	r     *bufio.Reader
	nonce string
}

// raw connects to NATS itself, past the greeting and TLS.
func (x *attacker) raw() *raw {
	x.Helper()
	x.token(x.cluster+"-raw", 0)
	u, err := url.Parse(x.urls["tls"])
	x.must(err)
	c, err := net.Dial("tcp", u.Host)
	x.must(err)
	x.must(c.SetDeadline(time.Now().Add(30 * time.Second)))
	line, err := bufio.NewReader(io.LimitReader(c, 64<<10)).ReadString('\n')
	x.must(err)
	var info struct {
		Nonce string `json:"nonce"`
	}
	x.must(json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	config := x.trust.Clone()
	config.ServerName = u.Hostname()
	t := tls.Client(c, config)
	x.must(t.Handshake())
	return &raw{Conn: t, r: bufio.NewReader(t), nonce: info.Nonce}
}

// login says who it is.
func (r *raw) login(x *attacker, token string, key nkeys.KeyPair) {
	x.Helper()
	sig, err := key.Sign([]byte(r.nonce))
	x.must(err)
	hello, err := json.Marshal(map[string]any{"verbose": false, "headers": true, "no_responders": true, "protocol": 1, "jwt": token, "sig": base64.RawURLEncoding.EncodeToString(sig)})
	x.must(err)
	_, err = fmt.Fprintf(r, "CONNECT %s\r\nPING\r\n", hello)
	x.must(err)
	for {
		line, err := r.r.ReadString('\n')
		x.must(err)
		if strings.HasPrefix(line, "PONG") {
			return
		}
		if strings.HasPrefix(line, "-ERR") {
			x.Fatalf("can't make the attack: %s", line)
		}
	}
}

// say sends something and returns what the server says to it: nil if it goes on
// as if nothing were wrong.
func (r *raw) say(x *attacker, text string) error {
	x.Helper()
	if _, err := io.WriteString(r, text+"PING\r\n"); err != nil {
		return err
	}
	for {
		line, err := r.r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "-ERR"):
			return errors.New(strings.TrimSpace(line))
		case strings.HasPrefix(line, "PONG"), strings.HasPrefix(line, "MSG "):
			return nil
		}
	}
}
