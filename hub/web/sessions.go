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
	links    map[ticket]*session
	sessions map[ticket]*session
}

type ticket [sha256.Size]byte

// session is one, or what a link makes one from.
type session struct {
	until time.Time // it ends at the latest

	mu      sync.Mutex // of what follows
	id      fleet.Identity
	fresh   time.Time // until when id holds; zero: as long as the credential does
	refresh string    // to ask the provider again
}

// NewSessions makes an empty one. now is the clock; nil: the real one.
func NewSessions(now func() time.Time) *Sessions {
	if now == nil {
		now = time.Now
	}
	return &Sessions{now: now, links: map[ticket]*session{}, sessions: map[ticket]*session{}}
}

// Issue makes a link that logs a browser in as somebody, once, within five
// minutes. It is a path with a query on this hub. ErrUnavailable: too many wait
// to be used.
func (s *Sessions) Issue(id fleet.Identity) (path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code, err := s.put(s.links, maxLinks, &session{id: id, until: s.now().Add(linkLife)})
	if err != nil {
		return "", err
	}
	return "/login?" + url.Values{"code": {code}}.Encode(), nil
}

// redeem exchanges a link's code for a session. The code is spent either way.
func (s *Sessions) redeem(code string) (secret string, until time.Time, err error) {
	s.mu.Lock()
	key := ticket(sha256.Sum256([]byte(code)))
	link, ok := s.links[key]
	delete(s.links, key)
	s.mu.Unlock()
	if !ok || !s.now().Before(link.until) {
		return "", time.Time{}, fleet.Forbidden("this link has been used already, or is older than %d minutes", int(linkLife.Minutes()))
	}
	return s.begin(&session{id: link.id})
}

// begin makes a session. Its secret is for one browser.
func (s *Sessions) begin(se *session) (secret string, until time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se.until = s.now().Add(sessionLife)
	secret, err = s.put(s.sessions, maxSessions, se)
	return secret, se.until, err
}

// find returns a session that has not ended, or nil.
func (s *Sessions) find(secret string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.sessions[sha256.Sum256([]byte(secret))]
	if se == nil || !s.now().Before(se.until) {
		return nil
	}
	return se
}

// end forgets a session, and what it knows of a provider.
func (s *Sessions) end(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sha256.Sum256([]byte(secret)))
}

func (s *Sessions) put(in map[ticket]*session, most int, se *session) (string, error) {
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
	in[sha256.Sum256([]byte(secret))] = se
	return secret, nil
}
