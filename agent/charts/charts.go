// Package charts fetches Helm charts from where they are kept: chart
// repositories and OCI registries. It is the one room that connects to those.
//
// What it fetches came from strangers and is not looked at here: indexes,
// manifests and archives go to a render worker as they are, which says what to
// fetch next. So nothing in the agent's own process parses them; what oras reads
// of a registry by itself are its tokens and its errors, which are bounded. What
// the worker asks for is bounded too. Credentials go to the host they are for, and
// to whom a registry names for giving out its tokens; never after a redirect.
package charts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Entry is a place where charts may come from, or all whose URLs begin alike,
// with what the spoke's own people decided about it.
type Entry struct {
	URL          string `json:"url"` // https://..., oci://..., or a part of it up to a slash
	UsernameFile string `json:"usernameFile,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	CAFile       string `json:"caFile,omitempty"`    // PEM, to trust besides the system's
	PlainHTTP    bool   `json:"plainHTTP,omitempty"` // without TLS: whoever is on the way can change the charts
}

// Config of a Client. Every zero value has a meaning.
type Config struct {
	// Entries are the places charts may come from; none: any, without credentials
	// but an App's own, and with TLS.
	Entries    []Entry
	CacheBytes int           // 0: 32 MiB
	Timeout    time.Duration // of one fetch; 0: 20 seconds
}

// Bounds of what is fetched. A worker that was taken over can't have more.
const (
	maxIndex    = 24 << 20
	maxArchive  = 16 << 20
	maxManifest = 1 << 20
)

// Client fetches. It is safe for concurrent use.
type Client struct {
	timeout time.Duration
	places  *places
	kept    *cache

	mu   sync.Mutex
	down map[string]outage // by host
}

// outage is a host that did not answer: it is left alone for a while, because
// renders wait in line while one of them fetches.
type outage struct {
	until time.Time
	pause time.Duration
	err   error
}

const (
	firstPause = 2 * time.Second
	lastPause  = time.Minute
)

// New makes a Client. It connects to nothing. Errors name the entry and have hints.
func New(cfg Config) (*Client, error) {
	p, err := newPlaces(cfg.Entries)
	if err != nil {
		return nil, err
	}
	return &Client{
		timeout: cmp.Or(cfg.Timeout, 20*time.Second), places: p, kept: newCache(cmp.Or(cfg.CacheBytes, 32<<20)), down: map[string]outage{},
	}, nil
}

// Fetch gets one thing. own is the place that an App itself names, and access
// is for that place alone; elsewhere the spoke's own credentials count. The error
// is a *unit.ChartError, or ctx's.
func (c *Client) Fetch(ctx context.Context, f unit.ChartFile, own string, access unit.ChartAccess) ([]byte, error) {
	if f.Repository != own {
		access = unit.ChartAccess{}
	}
	b, err := c.fetch(ctx, f, access)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &unit.ChartError{Message: nameOf(f) + ": " + err.Error(), Hint: cmp.Or(fleet.Hint(err), "an agent tries again by itself")}
}

// nameOf says what could not be had, without what may be a password.
func nameOf(f unit.ChartFile) string {
	at := f.Repository
	if scheme, rest, ok := strings.Cut(at, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		at = strings.TrimSuffix(scheme+"://"+host[strings.LastIndexByte(host, '@')+1:]+"/"+path, "/")
	}
	switch f.Kind {
	case unit.ChartIndex:
		return "the chart repository " + at
	case unit.ChartManifest:
		return "chart " + f.Name + " " + f.Ref + " of " + at
	}
	return "chart " + f.Name + " of " + at
}

func (c *Client) fetch(ctx context.Context, f unit.ChartFile, access unit.ChartAccess) ([]byte, error) {
	p, err := c.places.find(f.Repository)
	if err != nil {
		return nil, err
	}
	if err := p.authorize(access); err != nil {
		return nil, err
	}
	key := p.key(f)
	if b := c.kept.get(key); b != nil {
		return b, nil
	}
	if err := c.rests(p.host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	b, want, err := p.get(ctx, f)
	c.heard(p.host, err)
	if err != nil {
		return nil, err
	}
	if want != "" {
		if got := digestOf(b); got != want {
			return nil, fleet.WithHint(fleet.Invalid("its archive is %s, and %s was announced", got, want), "it was cut short or changed on its way, or the repository's index is not up to date")
		}
	}
	c.kept.put(key, b, want != "")
	return b, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// errSilent is in errors of a host that gave no answer.
var errSilent = errors.New("no answer")

func (c *Client) rests(host string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.down[host]; ok && time.Now().Before(o.until) {
		return o.err
	}
	return nil
}

func (c *Client) heard(host string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.Is(err, errSilent) {
		delete(c.down, host)
		return
	}
	pause := min(max(firstPause, 2*c.down[host].pause), lastPause)
	c.down[host] = outage{until: time.Now().Add(pause), pause: pause, err: err}
}

func tooLarge(most int) error {
	return fleet.WithHint(fleet.Invalid("it is over the limit of %d MiB", most>>20), "commit the chart to the repository, or keep it in a smaller chart repository or in a registry")
}

func unknownKind(f unit.ChartFile) error { return fmt.Errorf("%d is nothing to fetch", f.Kind) }
