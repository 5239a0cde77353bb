package charts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const userAgent = "capstan-agent"

// get fetches one thing, and says which digest it must have; "": that is not known.
func (p *place) get(ctx context.Context, f unit.ChartFile) (b []byte, digest string, err error) {
	client, err := p.client()
	if err != nil {
		return nil, "", err
	}
	defer client.CloseIdleConnections()
	registry := p.url.Scheme == "oci"
	switch {
	case f.Kind == unit.ChartIndex && !registry:
		at := *p.url
		at.Path = strings.TrimSuffix(at.Path, "/") + "/index.yaml"
		b, err = p.download(ctx, client, &at, maxIndex)
		return b, "", err
	case f.Kind == unit.ChartArchive && !registry:
		at, err := p.archiveAt(f.Ref)
		if err != nil {
			return nil, "", err
		}
		b, err = p.download(ctx, client, at, maxArchive)
		return b, f.Digest, err
	case f.Kind == unit.ChartManifest && registry:
		b, err = p.pull(ctx, client, f, maxManifest)
		return b, "", err
	case f.Kind == unit.ChartLayer && registry:
		b, err = p.pull(ctx, client, f, maxArchive)
		return b, f.Ref, err
	}
	return nil, "", unknownKind(f)
}

// archiveAt checks where an index says that an archive is: it may be anywhere,
// but nothing goes without TLS that did not before.
func (p *place) archiveAt(text string) (*url.URL, error) {
	at, err := url.Parse(text)
	switch {
	case err != nil || at.Host == "" || at.User != nil:
		return nil, fleet.Invalid("the repository's index names no place for its archive")
	case at.Scheme == "https":
		return at, nil
	case at.Scheme == "http" && p.url.Scheme == "http" && port(at) == port(p.url):
		return at, nil
	}
	return nil, fleet.Invalid("the repository's index says that its archive is where there is no TLS")
}

// client reaches a place, and follows it elsewhere without credentials.
func (p *place) client() (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if len(p.ca) > 0 && !roots.AppendCertsFromPEM(p.ca) {
		return nil, fleet.WithHint(fleet.Invalid("there is no certificate in what is to be trusted"), "write it as PEM")
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: refuseLinkLocal}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
	}
	tight := &tight{Transport: transport}
	if p.entry.PlainHTTP {
		tight.plain = p.url.Host
	}
	return &http.Client{Transport: tight, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		switch {
		case len(via) >= 5:
			return fmt.Errorf("%w: too many redirects", errMisled)
		case port(r.URL) != port(first):
			r.Header.Del("Authorization")
		}
		return nil
	}}, nil
}

// tight lets nothing out without TLS, but to the one host where that is allowed.
// Registries, too, say where to go on: to whom gives out their tokens.
type tight struct {
	*http.Transport
	plain string
}

// RoundTrip implements http.RoundTripper.
func (t *tight) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && (t.plain == "" || r.URL.Host != t.plain) {
		return nil, fmt.Errorf("%w: to where there is no TLS", errMisled)
	}
	return t.Transport.RoundTrip(r)
}

// refuseLinkLocal keeps out of a cloud's metadata service, which answers anybody
// on the machine.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	host, _, _ = strings.Cut(host, "%")
	if ip := net.ParseIP(host); ip == nil || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("%w: to a link-local address, which is not asked for charts", errMisled)
	}
	return nil
}

func (p *place) download(ctx context.Context, client *http.Client, at *url.URL, most int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, fleet.Invalid("its URL can't be read")
	}
	r.Header.Set("User-Agent", userAgent)
	if (p.username != "" || p.password != "") && at.Scheme == p.url.Scheme && port(at) == port(p.url) {
		r.SetBasicAuth(p.username, p.password)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, unreached(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response.StatusCode, at.Host)
	}
	return readAll(response.Body, most)
}

func readAll(r io.Reader, most int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, unreached(err)
	case len(b) > most:
		return nil, tooLarge(most)
	}
	return b, nil
}

// unreached words an error of a connection. The URL in it is known, and may have
// grown a query that is nobody's business.
func unreached(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, errMisled) {
		return err
	}
	return fmt.Errorf("%w: %w", errSilent, err)
}

// errMisled is in errors about where a host leads. The host itself answers.
var errMisled = errors.New("it leads astray")

func refusal(status int, host string) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fleet.WithHint(fleet.Forbidden("%s says %d %s", host, status, http.StatusText(status)),
			"name a Secret with username and password in spec.source.helm.chart.secretRef, or list the place in the agent's configuration under charts")
	case http.StatusNotFound:
		return fleet.WithHint(fleet.NotFound("%s has no such thing", host), "check the repository, the chart's name and its version")
	}
	err := fleet.Unavailable("%s says %d %s", host, status, http.StatusText(status))
	if status >= 500 || status == http.StatusTooManyRequests {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return err
}

// pull gets a manifest or a layer from a registry.
func (p *place) pull(ctx context.Context, client *http.Client, f unit.ChartFile, most int) ([]byte, error) {
	repo, err := remote.NewRepository(p.url.Host + clean(p.url.Path) + "/" + f.Name)
	if err != nil {
		return nil, fleet.WithHint(fleet.Invalid("%s and %s make no name in a registry", p.url.Path, f.Name), "names there are lower case")
	}
	repo.PlainHTTP = p.entry.PlainHTTP
	mine := repo.Reference.Host()
	repo.Client = &auth.Client{Client: client, Header: http.Header{"User-Agent": {userAgent}}, Cache: auth.NewCache(), Credential: func(_ context.Context, host string) (auth.Credential, error) {
		if host != mine || p.username == "" && p.password == "" {
			return auth.EmptyCredential, nil
		}
		return auth.Credential{Username: p.username, Password: p.password}, nil
	}}
	var body io.ReadCloser
	if f.Kind == unit.ChartManifest {
		_, body, err = repo.Manifests().FetchReference(ctx, f.Ref)
	} else {
		_, body, err = repo.Blobs().FetchReference(ctx, f.Ref)
	}
	response, answered := errors.AsType[*errcode.ErrorResponse](err)
	switch {
	case answered:
		return nil, refusal(response.StatusCode, p.host)
	case errors.Is(err, errdef.ErrNotFound):
		return nil, refusal(http.StatusNotFound, p.host)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return nil, refusal(http.StatusUnauthorized, p.host)
	case err != nil:
		return nil, unreached(err)
	}
	defer body.Close()
	return readAll(body, most)
}
