package uplink

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// A way is a set of the hub's URLs that one connection can be kept up over.
type way struct {
	urls []string
	web  bool // over WebSocket, and so through proxies
	bare bool // over WebSocket without TLS
	was  bool // from before: it is trusted by what counted then
}

// ways sorts the hub's URLs: first those that NATS itself speaks at, which
// cost less, then those over WebSocket. The client takes only one kind at a time.
func ways(urls []string) []way {
	all := []way{{}, {web: true}, {web: true, bare: true}}
	for _, u := range urls {
		i := map[string]int{"wss": 1, "ws": 2}[schemeOf(u)]
		all[i].urls = append(all[i].urls, u)
	}
	return slices.DeleteFunc(all, func(w way) bool { return len(w.urls) == 0 })
}

// schemeOf is a URL's scheme as the client reads it: in small letters, however
// it is written. It is empty where there is none.
func schemeOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme
}

func (w way) String() string { return strings.Join(w.urls, ",") }

// errStray: the link has been down for so long that another way is tried.
var errStray = errors.New("the hub can't be reached this way")

// switchAfter is how long a link that was up may be down before the hub's other
// URLs are tried as well.
const switchAfter = time.Minute

// ways are all there are: where the hub was before comes last.
func (k Kept) ways() []way {
	all := append(ways(k.URLs), ways(k.OldURLs)...)
	if b := k.before(time.Now()); b != nil {
		for _, w := range ways(b.URLs) {
			w.was = true
			all = append(all, w)
		}
	}
	return all
}

// trusted is what the hub's certificate has to be signed by on a way, in PEM.
func (k Kept) trusted(w way) string {
	if b := k.before(time.Now()); b != nil && w.was {
		return b.CA
	}
	return k.CA
}

// stray ends with errStray once the link has been down for long and there is
// another way than the one in use.
func (s *session) stray(ctx context.Context, used way) error {
	for {
		select {
		case <-s.fell:
		case <-ctx.Done():
			return ctx.Err()
		}
		for since := time.Now(); !s.nc.IsConnected(); {
			if time.Since(since) >= s.cfg.SwitchAfter && s.hasOther(used) {
				return errStray
			}
			select {
			case <-time.After(s.cfg.SwitchAfter / 4):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// hasOther tells whether there is a way to the hub that is not this one.
func (s *session) hasOther(used way) bool {
	return slices.ContainsFunc(s.state().ways(), func(w way) bool { return w.String() != used.String() || w.was != used.was })
}

// dialer opens the connection below NATS: straight, or for WebSocket through
// the proxy that the environment names. It closes the socket of the attempt
// before, which nats.go leaves to the garbage collector when a handshake fails.
type dialer struct {
	proxy func(*http.Request) (*url.URL, error) // nil: straight

	mu   sync.Mutex
	last net.Conn
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		_ = d.last.Close() // closed already, unless it leaked
		d.last = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin) // the interface has no context
	defer cancel()
	c, err := d.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.last = c
	return c, nil
}

func (d *dialer) open(ctx context.Context, network, address string) (net.Conn, error) {
	var straight net.Dialer
	if d.proxy == nil {
		return straight.DialContext(ctx, network, address)
	}
	through, err := d.proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	if err != nil {
		return nil, fleet.Invalid("the environment's proxy can't be used: its URL is not valid")
	}
	if through == nil {
		return straight.DialContext(ctx, network, address)
	}
	c, err := tunnel(ctx, through, address)
	if err != nil {
		return nil, fleet.WithHint(fmt.Errorf("through the proxy %s: %w", through.Host, err),
			"the proxy comes from HTTPS_PROXY in the agent's environment; NO_PROXY names hosts that are reached without it")
	}
	return c, nil
}

// tunnel asks an HTTP proxy to pass a connection on.
func tunnel(ctx context.Context, proxy *url.URL, address string) (_ net.Conn, err error) {
	ports := map[string]string{"http": "80", "https": "443"}
	port, known := ports[proxy.Scheme]
	if !known {
		return nil, fleet.Invalid("it is of kind %q, only http and https are known", proxy.Scheme)
	}
	if p := proxy.Port(); p != "" {
		port = p
	}
	var straight net.Dialer
	c, err := straight.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if proxy.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
	}
	if err := connectVia(c, proxy.User, address); err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}

func connectVia(c net.Conn, user *url.Userinfo, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: make(http.Header)}
	if user != nil {
		password, _ := user.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	if r.Buffered() > 0 {
		return errors.New("it says more than was asked")
	}
	return nil
}
