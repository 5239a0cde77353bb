package api

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The roles a token may have.
const (
	RoleViewer = "viewer" // sees everything
	RoleAdmin  = "admin"  // and changes it
	RoleHook   = "hook"   // may only tell of pushes
)

var _ Tokens = (*TokenFile)(nil)

// TokenFile is the tokens of a file with lines "name role sha256:<hex>", the
// hash being the token's. Empty lines and lines with # are passed over. The
// file is read again when it has changed. While it can't be read nobody gets
// in: somebody may just have been taken off it.
type TokenFile struct {
	path string

	mu      sync.Mutex
	seen    fileState
	entries []tokenEntry
	err     error
}

type tokenEntry struct {
	name, role string
	hash       [sha256.Size]byte
}

type fileState struct {
	size int64
	time time.Time
}

// OpenTokens reads the file at path.
func OpenTokens(path string) (*TokenFile, error) {
	t := &TokenFile{path: path}
	_, err := t.current()
	return t, err
}

// Authenticate implements Tokens.
func (t *TokenFile) Authenticate(token string) (name, role string, err error) {
	entries, err := t.current()
	if err != nil {
		return "", "", fleet.Unavailable("the hub can't read its tokens: %w", err)
	}
	if token == "" {
		return "", "", fleet.WithHint(fleet.Forbidden("no token was given"), "set CAPSTAN_TOKEN to a token of this hub")
	}
	hash := sha256.Sum256([]byte(token))
	for _, e := range entries { // all of them, so that the time taken says nothing
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			name, role = e.name, e.role
		}
	}
	if name == "" {
		return "", "", fleet.WithHint(fleet.Forbidden("the token is not one of this hub's"),
			"check CAPSTAN_TOKEN, and that CAPSTAN_HUB is the hub it belongs to")
	}
	return name, role, nil
}

// Knows tells whether some token is still name's with that role, for sessions
// that one began: they end when it is taken off the file.
func (t *TokenFile) Knows(name, role string) (bool, error) {
	entries, err := t.current()
	if err != nil {
		return false, fleet.Unavailable("the hub can't read its tokens: %w", err)
	}
	return slices.ContainsFunc(entries, func(e tokenEntry) bool { return e.name == name && e.role == role }), nil
}

func (t *TokenFile) current() ([]tokenEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.path)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	now := fileState{size: info.Size(), time: info.ModTime()}
	if now == t.seen {
		return t.entries, t.err
	}
	raw, err := os.ReadFile(t.path)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	t.seen = now
	t.entries, t.err = parseTokens(t.path, raw)
	return t.entries, t.err
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}$`)

// parseTokens never quotes a line: it may be a token put there by mistake.
func parseTokens(path string, raw []byte) ([]tokenEntry, error) {
	var out []tokenEntry
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		bad := func(why string) error {
			return fleet.WithHint(fleet.Invalid("tokens: %s line %d: %s", path, n, why),
				"a line is: name role sha256:<hex of the token's SHA-256>")
		}
		if len(f) != 3 {
			return nil, bad("does not have three words")
		}
		if !tokenName.MatchString(f[0]) {
			return nil, bad("the name is not valid")
		}
		if f[1] != RoleViewer && f[1] != RoleAdmin && f[1] != RoleHook {
			return nil, bad("the role is not viewer, admin or hook")
		}
		digits, ok := strings.CutPrefix(f[2], "sha256:")
		hash, err := hex.DecodeString(digits)
		if !ok || err != nil || len(hash) != sha256.Size {
			return nil, bad("the third word is not sha256: and 64 hex digits")
		}
		out = append(out, tokenEntry{name: f[0], role: f[1], hash: [sha256.Size]byte(hash)})
	}
	return out, lines.Err()
}
