package source

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// dialer makes sessions with the server. Its HTTP client is the repository's
// own: go-git's default one is shared by the process and trusts the system's
// certificates only.
type dialer struct {
	endpoint *transport.Endpoint
	caFile   string
	maxBytes int64

	ca     []byte // what the transport was made with
	http   *http.Transport
	client transport.Transport
}

func newDialer(cfg Config) (*dialer, error) {
	endpoint, err := transport.NewEndpoint(cfg.URL)
	if err != nil {
		return nil, fleet.Invalid("the repository's URL can't be used")
	}
	// Beside the pack there are packets' headers and the list of references.
	d := &dialer{endpoint: endpoint, caFile: cfg.CAFile, maxBytes: cfg.Limits.PackBytes + cfg.Limits.PackBytes/16 + 1<<20}
	return d, d.refresh()
}

// refresh makes the transport, again when the file of certificates changed.
func (d *dialer) refresh() error {
	var ca []byte
	if d.caFile != "" {
		var err error
		if ca, err = os.ReadFile(d.caFile); err != nil {
			return fleet.WithHint(fmt.Errorf("the repository's certificates: %w", err), "is the ConfigMap or Secret mounted?")
		}
	}
	if d.http != nil && bytes.Equal(ca, d.ca) {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return fmt.Errorf("the system's certificates: %w", err)
		}
		if !pool.AppendCertsFromPEM(ca) {
			return fleet.WithHint(fleet.Invalid("%s holds no certificate", d.caFile), "it is to hold certificates as PEM")
		}
		config.RootCAs = pool
	}
	if d.http != nil {
		d.http.CloseIdleConnections()
	}
	d.ca = ca
	d.http = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   15 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          2,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	d.client = githttp.NewClient(&http.Client{Transport: &boundedTransport{next: d.http, max: d.maxBytes}})
	return nil
}

// session is for one fetch. go-git keeps credentials from going along when the
// server sends us to another one; a redirect changes the session's endpoint, so
// each has its own.
func (d *dialer) session(auth transport.AuthMethod) (transport.UploadPackSession, error) {
	if err := d.refresh(); err != nil {
		return nil, err
	}
	endpoint := *d.endpoint
	return d.client.NewUploadPackSession(&endpoint, auth)
}

var errAnswerTooLong = errors.New("the server's answer is too long")

// boundedTransport bounds every answer: go-git reads lists of references and
// error pages to their end.
type boundedTransport struct {
	next http.RoundTripper
	max  int64
}

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
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
