package uplink_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/capstan-gitops/capstan/agent/uplink"
)

// certified makes a certificate for hub.test and for what a forward leads to, and what an agent is told of it.
func certified(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, DNSNames: []string{"hub.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, string(ca)
}

// proxy is an HTTP proxy that alone knows where hub.test is.
type proxy struct {
	*httptest.Server
	to func() string // the address hub.test stands for

	mu    sync.Mutex
	asked []string
	conns []net.Conn
}

func newProxy(t *testing.T, to func() string) *proxy {
	t.Helper()
	p := &proxy{to: to}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.cut()
		p.Close()
	})
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if user, password, _ := auth(r); user != "agent" || password != "s3cret" {
		http.Error(w, "who are you", http.StatusProxyAuthRequired)
		return
	}
	far, err := net.Dial("tcp", p.to())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		far.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, near, far)
	p.mu.Unlock()
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	go func() { io.Copy(far, near); far.Close() }()
	io.Copy(near, far)
	near.Close()
}

func auth(r *http.Request) (string, string, bool) {
	copied := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return copied.BasicAuth()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// through names the proxy as the environment would.
func (p *proxy) through(user *url.Userinfo) func(*http.Request) (*url.URL, error) {
	u, err := url.Parse(p.URL)
	return func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() != "hub.test" {
			return nil, errors.New("asked for " + r.URL.Host)
		}
		u.User = user
		return u, err
	}
}

func newWebHub(t *testing.T) (*fakeHub, func() string) {
	t.Helper()
	var web *server.Options
	h := newHubWith(t, func(h *fakeHub) {
		config, ca := certified(t)
		h.ca = ca
		h.urls = func() []string { return []string{"wss://hub.test"} }
		port := server.RANDOM_PORT
		h.options = func(o *server.Options) {
			if web != nil {
				port = web.Websocket.Port
			}
			o.Websocket = server.WebsocketOpts{Host: "127.0.0.1", Port: port, TLSConfig: config}
			o.TLSConfig, o.TLSTimeout = config, 10
			web = o
		}
	})
	return h, func() string {
		u, err := url.Parse(h.srv.WebsocketURL())
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
}

func TestAnAgentGetsOutThroughAProxyAlone(t *testing.T) {
	h, where := newWebHub(t)
	p := newProxy(t, where)
	s := newSpoke(status("web", "well"))
	begin(t, openWith(t, uplink.Config{Token: h.token("j1"), Proxy: p.through(url.UserPassword("agent", "s3cret"))}, s, &vault{}))
	h.is("all is reported", func() bool { return h.statuses["web"] == "well" && h.resent == 1 })
	h.set(func() { h.beats = 0 })
	p.cut()
	h.is("it comes back", func() bool { return h.resent == 2 && h.beats > 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.asked {
		if a != "CONNECT hub.test:443" {
			t.Errorf("the proxy was asked for %s", a)
		}
	}
}

func TestAProxyThatRefusesIsSaidWithoutItsPassword(t *testing.T) {
	h, where := newWebHub(t)
	p := newProxy(t, where)
	said := make(chan string, 100)
	u := openWith(t, uplink.Config{Token: h.token("j1"), Proxy: p.through(url.UserPassword("agent", "wr0ng")), Log: slog.New(secretsGuard{t, said})}, newSpoke(), &vault{})
	begin(t, u)
	for line := range said {
		if strings.Contains(line, "wr0ng") {
			t.Fatalf("the password is in the log: %s", line)
		}
		if strings.Contains(line, "407") && strings.Contains(line, "HTTPS_PROXY") {
			return
		}
	}
}

func TestAnAgentTriesEveryWayToItsHub(t *testing.T) {
	h, where := newWebHub(t)
	p := newProxy(t, where)
	native := closedPort(t)
	h.urls = func() []string { return []string{"wss://hub.test", "nats://" + native} }
	s, v := newSpoke(status("web", "well")), &vault{}
	begin(t, openWith(t, uplink.Config{
		Token: h.token("j1"), Proxy: p.through(url.UserPassword("agent", "s3cret")), SwitchAfter: 100 * time.Millisecond,
	}, s, v))
	h.is("it came over WebSocket", func() bool { return h.statuses["web"] == "well" && h.resent == 1 })

	// WebSocket goes away, and the other way opens.
	straight := newForward(t, native, h.srv.Addr().String())
	defer straight.Close()
	p.Close()
	p.cut()
	h.is("it came back the other way", func() bool { return h.resent == 2 })
}

func TestAHubWithoutTLSIsReachedOverWebSocket(t *testing.T) {
	h := newHubWith(t, func(h *fakeHub) {
		h.options = func(o *server.Options) {
			o.Websocket = server.WebsocketOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoTLS: true}
		}
	})
	for i, url := range []string{h.srv.WebsocketURL(), strings.Replace(h.srv.WebsocketURL(), "ws:", "WS:", 1)} {
		h.urls = func() []string { return []string{"wss://" + closedPort(t), url} }
		_, stop := run(t, h.token("j"+strconv.Itoa(i)), newSpoke(), &vault{})
		h.is(url+" leads to it", func() bool { return h.resent == i+1 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newForward passes connections on from one address to another.
func newForward(t *testing.T, from, to string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go func() { io.Copy(far, near); far.Close() }()
			go func() { io.Copy(near, far); near.Close() }()
		}
	}()
	return l
}
