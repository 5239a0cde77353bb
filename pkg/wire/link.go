package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// LinkGet asks where the hub is to be found from now on.
type LinkGet struct{}

func (LinkGet) Kind() Kind      { return "link-get" }
func (LinkGet) Limit() int      { return smallLimit }
func (LinkGet) Validate() error { return nil }

// Link is where agents find the hub, and what they trust there: what a join
// token tells a new one.
type Link struct {
	URLs []string `json:"urls"`         // of NATS, as agents dial them
	CA   string   `json:"ca,omitempty"` // PEM; empty: the system's
}

// Limits of a link.
const (
	maxURLs = 16
	maxURL  = 1 << 10
	maxCA   = 40 << 10
)

func (Link) Kind() Kind { return "link" }
func (Link) Limit() int { return maxToken }

func (l Link) Validate() error {
	if len(l.URLs) == 0 || len(l.URLs) > maxURLs {
		return fleet.Invalid("%d URLs are not between 1 and %d", len(l.URLs), maxURLs)
	}
	for _, raw := range l.URLs {
		u, err := url.Parse(raw)
		if err != nil || len(raw) > maxURL || u.Host == "" || u.User != nil || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return fleet.Invalid("URL %q is none of a hub", clip(raw))
		}
	}
	if len(l.CA) > maxCA {
		return fleet.Invalid("the CA has %d bytes, more than %d", len(l.CA), maxCA)
	}
	return nil
}

// Stamp changes when the link does, but for the order of its URLs.
func (l Link) Stamp() string {
	sum := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(l.URLs)), "\n") + "\n\n" + l.CA))
	return hex.EncodeToString(sum[:8])
}
