package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// httpLine leads to a server over HTTP. Its client is the repository's own:
// go-git's default one is shared by the process and trusts the system's
// certificates only.
type httpLine struct {
	cfg      *Config
	stranger bool // not the host that the credentials are for
	endpoint *transport.Endpoint
	maxBytes int64
	home     string // plainHost of the URL

	mu     sync.Mutex
	made   [][]byte // the files the transport was made with
	http   *http.Transport
	client transport.Transport
	two    *http.Client // for version 2 of the protocol
	met    *greeting    // by the server, if it speaks version 2
	until  time.Time    // then it is asked again which version it speaks, and what it can do
}

var _ line = (*httpLine)(nil)

func newHTTPServer(cfg *Config, url string, a address) (*server, error) {
	endpoint, err := transport.NewEndpoint(url)
	if err != nil {
		return nil, fleet.Invalid("the repository's URL can't be used")
	}
	own, err := parseAddress(cfg.URL)
	if err != nil {
		return nil, err
	}
	l := &httpLine{cfg: cfg, home: plainHost(a), stranger: a.scheme != own.scheme || a.host != own.host, endpoint: endpoint, maxBytes: cfg.Limits.answerBytes()}
	return newServer(cfg, url, l), l.refresh()
}

// open begins a session for one fetch. What version a server speaks is
// remembered, so that a poll is one request.
func (l *httpLine) open(ctx context.Context) (session, credentials, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var with credentials
	if !l.stranger {
		var err error
		if with, err = l.cfg.credentials(); err != nil {
			return session{}, with, err
		}
	}
	if err := l.refresh(); err != nil {
		return session{}, with, err
	}
	if !time.Now().Before(l.until) {
		met, err := l.greet(ctx, with)
		if err != nil && !errors.Is(err, errOldProtocol) {
			return session{}, with, err
		}
		l.met, l.until = met, time.Now().Add(askAgain)
	}
	if l.met != nil {
		return session{talk: &httpTalk{client: l.two, met: *l.met, with: with}}, with, nil
	}
	// go-git keeps credentials from going along when the server sends us to
	// another one; a redirect changes the session's endpoint, so each has its own.
	endpoint := *l.endpoint
	old, err := l.client.NewUploadPackSession(&endpoint, with.auth())
	return session{old: old}, with, err
}

// askAgain is how long a server is taken to be what it was.
const askAgain = time.Hour

func (l *httpLine) forget() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.met != nil
	l.met, l.until = nil, time.Time{}
	return known
}

// refresh makes the transport, again when one of its files changed.
func (l *httpLine) refresh() error {
	var files [][]byte
	for _, name := range []string{l.cfg.CAFile, l.cfg.CertFile, l.cfg.KeyFile} {
		var content []byte
		if name != "" {
			var err error
			if content, err = l.cfg.read(name); err != nil {
				return fleet.WithHint(fmt.Errorf("the repository's certificates: %w", err), "is the ConfigMap or Secret mounted?")
			}
		}
		files = append(files, content)
	}
	if l.http != nil && slices.EqualFunc(files, l.made, bytes.Equal) {
		return nil
	}
	config, err := l.tls(files[0], files[1], files[2])
	if err != nil {
		return err
	}
	proxy, err := l.cfg.proxy()
	if err != nil {
		return err
	}
	if l.http != nil {
		l.http.CloseIdleConnections()
	}
	l.made = files
	l.http = &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   15 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          2,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	bounded := &boundedTransport{next: l.http, max: l.maxBytes, home: l.home, mayLead: l.cfg.mayLead}
	l.client = githttp.NewClient(&http.Client{Transport: bounded})
	l.two = &http.Client{Transport: bounded, CheckRedirect: checkRedirect}
	return nil
}

func (l *httpLine) tls(ca, cert, key []byte) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.cfg.CAFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("the system's certificates: %w", err)
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, fleet.WithHint(fleet.Invalid("%s holds no certificate", l.cfg.CAFile), "it is to hold certificates as PEM")
		}
		config.RootCAs = pool
	}
	if l.cfg.CertFile != "" {
		// Not the error: what it says of a key file is not for people to see.
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fleet.WithHint(fleet.Invalid("%s and %s are not a certificate and its key", l.cfg.CertFile, l.cfg.KeyFile),
				"they are to hold a client certificate and its private key as PEM; if they rotate, the next fetch reads them again")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// proxy is the one configured, or what HTTPS_PROXY and its kin say.
func (c *Config) proxy() (func(*http.Request) (*url.URL, error), error) {
	if c.ProxyURL == "" {
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(c.ProxyURL)
	const like = "write it like http://proxy.example.com:3128"
	switch {
	case err != nil: // not the parser's error: it quotes the URL
		return nil, fleet.WithHint(fleet.Invalid("the proxy's URL can't be read"), like)
	case u.User != nil:
		return nil, fleet.WithHint(fleet.Invalid("the proxy's URL has credentials in it"),
			"leave it out, and set HTTPS_PROXY in the agent's environment from a Secret")
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) || u.Host == "":
		return nil, fleet.WithHint(fleet.Invalid("the proxy's URL is not one of http, https or socks5"), like)
	}
	return http.ProxyURL(u), nil
}

var errAnswerTooLong = errors.New("the server's answer is too long")

// boundedTransport bounds every answer: go-git reads lists of references and
// error pages to their end.
type boundedTransport struct {
	next    http.RoundTripper
	max     int64
	home    string // the host that is asked first, as plainHost has it
	mayLead func(to *url.URL) bool
}

var errElsewhere = errors.New("the server leads to one that this cluster does not let Apps read from")

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.mayLead != nil && plainHost(address{scheme: r.URL.Scheme, host: r.URL.Host}) != t.home && !t.mayLead(r.URL) {
		return nil, errElsewhere
	}
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	limit := t.max
	if answer.StatusCode != http.StatusOK {
		limit = 64 << 10
	}
	answer.Body = &boundedBody{ReadCloser: answer.Body, left: limit}
	return answer, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errAnswerTooLong
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
