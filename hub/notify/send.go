package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// target is a place that messages are sent to. The error holds no address and
// no secret.
type target interface {
	kind() string
	send(ctx context.Context, m Message, text string) error
}

// sendWithin is how long one message may take.
const sendWithin = 15 * time.Second

// Send sends one message on a route.
func (r *Route) Send(ctx context.Context, m Message) error {
	text, err := render(r.text, m)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	return r.to.send(ctx, m, text)
}

// Kind names the route's target: slack, email and so on.
func (r *Route) Kind() string { return r.to.kind() }

// later is a refusal that says when to come back.
type later struct {
	error
	after time.Duration
}

func (l *later) Unwrap() error { return l.error }

// secretFile reads a file that holds one secret. It is read for each message, so
// that it can be changed.
func secretFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fleet.Invalid("%s is empty", path)
	}
	return s, nil
}

// address is where the place is, by a file that may hold it.
func (p place) address() (string, error) {
	if p.URLFile == "" {
		return strings.TrimSuffix(p.URL, "/"), nil
	}
	raw, err := secretFile(p.URLFile)
	if err != nil {
		return "", err
	}
	if _, err := url.Parse(raw); err != nil {
		return "", fleet.Invalid("%s holds no URL", p.URLFile)
	}
	return strings.TrimSuffix(raw, "/"), nil
}

// client trusts what the place's CA file says, keeps no connection and follows
// nobody elsewhere: a credential would go along.
func (p place) client() (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	pool, err := caPool(p.CAFile)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// caPool is nil, for the system's, without a file.
func caPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fleet.Invalid("%s holds no certificate", file)
	}
	return pool, nil
}

// post sends v as JSON to base and path.
func (p place) post(ctx context.Context, path, contentType string, v any, auth func(http.Header, string)) error {
	base, err := p.address()
	if err != nil {
		return err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address is not valid")
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "capstan-hub")
	if p.TokenFile != "" {
		token, err := secretFile(p.TokenFile)
		if err != nil {
			return err
		}
		auth(req.Header, token)
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the address
		}
		return fleet.Unavailable("%s can't be reached: %w", req.URL.Hostname(), err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // what it says may repeat what was sent
	return refused(req.URL.Hostname(), resp)
}

func refused(host string, resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	err := fleet.Unavailable("%s answers %s", host, resp.Status)
	if s, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && s > 0 {
		return &later{err, min(time.Duration(s)*time.Second, time.Hour)}
	}
	return err
}

func bearer(h http.Header, token string) { h.Set("Authorization", "Bearer "+token) }
