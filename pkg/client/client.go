// Package client speaks to a hub's API. A Client is a fleet.Hub like the one
// behind that API: the same answers, and errors of the same kinds with the same
// hints.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var (
	_ fleet.Hub    = (*Client)(nil)
	_ fleet.People = (*Client)(nil)
)

// maxAnswer bounds what is read of one answer: a plan carries an app's whole
// document, and a list a whole fleet.
const maxAnswer = 256 << 20

// Config says which hub to speak to, and as whom.
type Config struct {
	URL   string // of the hub; a path is kept, for a hub behind a proxy
	Token string // bearer token
	// HTTP carries the requests; nil: a client with timeouts that fit.
	HTTP *http.Client
}

// Client is a hub, reached over HTTP.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// New makes a client; it opens no connection. The error is fleet.ErrInvalid.
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fleet.WithHint(fleet.Invalid("the hub's address %q is not a URL", c.URL),
			"give it like https://hub.example.com, in CAPSTAN_HUB")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, fleet.Invalid("the hub's address has more than a scheme, a host and a path")
	}
	if strings.ContainsAny(c.Token, " \t\r\n") {
		return nil, fleet.Invalid("the token has white space in it")
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	var h http.Client
	if c.HTTP != nil {
		h = *c.HTTP
	} else {
		h.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: time.Minute, // the hub may have to ask an agent
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
		}
	}
	// A hub never redirects its API. Following one would hand the token on.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: base, token: c.Token, http: &h}, nil
}

// call sends in as JSON (nil: no body) and decodes the answer into out (nil: none).
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	res, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return c.unreachable(err)
	}
	if len(body) > maxAnswer {
		return fleet.Unavailable("the hub's answer to %s %s is larger than %d bytes", method, path, maxAnswer)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fleet.WithHint(fleet.Unavailable("the hub's answer to %s %s can't be read: %w", method, path, err),
			"is CAPSTAN_HUB the address of a hub, and of this version?")
	}
	return nil
}

// send returns an answer of 2xx, or an error.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	return c.sendWith(ctx, method, path, query, in, nil)
}

func (c *Client) sendWith(ctx context.Context, method, path string, query url.Values, in any, header http.Header) (*http.Response, error) {
	u := *c.base
	u.Path += Prefix + path // names are validated: nothing needs escaping
	u.RawQuery = query.Encode()
	var body io.Reader
	if in != nil {
		b, err := encode(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	maps.Copy(req.Header, header)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.problem(res)
}

// encode leaves <, > and & alone, so that bytes somebody signed stay what they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return b.Bytes(), nil
}

func (c *Client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // without the URL: it is named already
	}
	return fleet.WithHint(fleet.Unavailable("hub %s: %w", c.base, err),
		"is the hub running, and is CAPSTAN_HUB its address?")
}

// problem turns an answer that is not 2xx into the error the hub had.
func (c *Client) problem(res *http.Response) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	var p Problem
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || kind != ProblemType || json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return fleet.WithHint(fleet.Unavailable("%s answers %s, not as a hub does", c.base, res.Status),
			"is CAPSTAN_HUB the address of a hub?")
	}
	return fleet.WithHint(kindOf(res.StatusCode)("%s", p.Detail), p.Hint)
}
