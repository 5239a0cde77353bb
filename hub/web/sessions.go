package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	linkLife    = 5 * time.Minute
	sessionLife = 12 * time.Hour
	maxLinks    = 1000 // not used yet, of all people together
	maxSessions = 10000
)

// Sessions keeps who is logged in with a browser. It lives in memory: a hub
// that starts again asks people to log in again. Only hashes of what it hands
// out are kept.
type Sessions struct {
	now func() time.Time

	mu       sync.Mutex
	links    map[ticket]holder
	sessions map[ticket]holder
}

type ticket [sha256.Size]byte

type holder struct {
	id    fleet.Identity
	until time.Time
}

// NewSessions makes an empty one. now is the clock; nil: the real one.
func NewSessions(now func() time.Time) *Sessions {
	if now == nil {
		now = time.Now
	}
	return &Sessions{now: now, links: map[ticket]holder{}, sessions: map[ticket]holder{}}
}

// Issue makes a link that logs a browser in as somebody, once, within five
// minutes. It is a path with a query on this hub. ErrUnavailable: too many wait
// to be used.
func (s *Sessions) Issue(id fleet.Identity) (path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code, err := s.put(s.links, maxLinks, holder{id, s.now().Add(linkLife)})
	if err != nil {
		return "", err
	}
	return "/login?" + url.Values{"code": {code}}.Encode(), nil
}

// redeem exchanges a link's code for a session. The code is spent either way.
func (s *Sessions) redeem(code string) (session string, until time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := ticket(sha256.Sum256([]byte(code)))
	h, ok := s.links[key]
	delete(s.links, key)
	if !ok || !s.now().Before(h.until) {
		return "", time.Time{}, fleet.Forbidden("this link has been used already, or is older than %d minutes", int(linkLife.Minutes()))
	}
	h.until = s.now().Add(sessionLife)
	session, err = s.put(s.sessions, maxSessions, h)
	return session, h.until, err
}

// find tells whose a session is.
func (s *Sessions) find(session string) (id fleet.Identity, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.sessions[sha256.Sum256([]byte(session))]
	if !ok || !s.now().Before(h.until) {
		return fleet.Identity{}, false
	}
	return h.id, true
}

func (s *Sessions) put(in map[ticket]holder, most int, h holder) (string, error) {
	if len(in) >= most {
		for k, old := range in {
			if !s.now().Before(old.until) {
				delete(in, k)
			}
		}
	}
	if len(in) >= most {
		return "", fleet.WithHint(fleet.Unavailable("too many logins at once"), "try again in a few minutes")
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	in[sha256.Sum256([]byte(secret))] = h
	return secret, nil
}
