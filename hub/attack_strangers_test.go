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
)

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
