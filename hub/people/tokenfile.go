package people

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/hub/access"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// TokenFile is the tokens of a file with lines "name roles sha256:<hex>", the
// hash being the token's; roles are separated by commas, and "-" is none but
// what the access file gives. Empty lines and lines with # are passed over. The
// file is read again when it has changed. While it can't be read nobody gets
// in: somebody may just have been taken off it.
type TokenFile struct {
	file watched[[]tokenEntry]
}

type tokenEntry struct {
	name  string
	roles []fleet.Role
	hash  [sha256.Size]byte
}

func (e tokenEntry) identity() fleet.Identity {
	id := fleet.Identity{Via: fleet.ViaToken, Name: e.name}
	if len(e.roles) > 0 {
		id.Grants = []fleet.Grant{{Roles: e.roles}}
	}
	return id
}

// OpenTokens reads the file at path.
func OpenTokens(path string) (*TokenFile, error) {
	t := &TokenFile{file: watched[[]tokenEntry]{what: "tokens", path: path, parse: parseTokens}}
	_, err := t.file.current()
	return t, err
}

// Authenticate tells whose a token is. ErrForbidden: nobody's. ErrUnavailable:
// that can't be told just now.
func (t *TokenFile) Authenticate(token string) (fleet.Identity, error) {
	none := fleet.Identity{}
	entries, err := t.file.current()
	if err != nil {
		return none, fleet.Unavailable("the hub can't read its tokens: %s", err)
	}
	if token == "" {
		return none, fleet.WithHint(fleet.Forbidden("no token was given"), "set CAPSTAN_TOKEN to a token of this hub, or use: capstan login")
	}
	hash := sha256.Sum256([]byte(token))
	found := none
	for _, e := range entries { // all of them, so that the time taken says nothing
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			found = e.identity()
		}
	}
	if found.Name == "" {
		return none, fleet.WithHint(fleet.Forbidden("the token is not one of this hub's"),
			"check CAPSTAN_TOKEN, and that CAPSTAN_HUB is the hub it belongs to")
	}
	return found, nil
}

// Named finds who a token of that name is now, for sessions that one began:
// they end when it is taken off the file. ErrForbidden: there is none.
func (t *TokenFile) Named(name string) (fleet.Identity, error) {
	entries, err := t.file.current()
	if err != nil {
		return fleet.Identity{}, fleet.Unavailable("the hub can't read its tokens: %s", err)
	}
	i := slices.IndexFunc(entries, func(e tokenEntry) bool { return e.name == name })
	if i < 0 {
		return fleet.Identity{}, fleet.Forbidden("there is no token of %q any more", name)
	}
	return entries[i].identity(), nil
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
		bad := func(why string) ([]tokenEntry, error) {
			return nil, fleet.WithHint(fleet.Invalid("tokens: %s line %d: %s", path, n, why),
				"a line is: name role sha256:<hex of the token's SHA-256>")
		}
		if len(f) != 3 {
			return bad("does not have three words")
		}
		if !tokenName.MatchString(f[0]) {
			return bad("the name is not valid")
		}
		roles, ok := parseRoles(f[1])
		if !ok {
			return bad("the role is not viewer, operator, approver, admin, hook, several of them with commas, or -")
		}
		digits, ok := strings.CutPrefix(f[2], "sha256:")
		hash, err := hex.DecodeString(digits)
		if !ok || err != nil || len(hash) != sha256.Size {
			return bad("the third word is not sha256: and 64 hex digits")
		}
		if slices.ContainsFunc(out, func(e tokenEntry) bool { return e.name == f[0] && !slices.Equal(e.roles, roles) }) {
			return bad("the name has other roles on a line before: two tokens of one name have the same")
		}
		out = append(out, tokenEntry{name: f[0], roles: roles, hash: [sha256.Size]byte(hash)})
	}
	return out, lines.Err()
}

func parseRoles(word string) (roles []fleet.Role, ok bool) {
	if word == "-" {
		return nil, true
	}
	for r := range strings.SplitSeq(word, ",") {
		if access.ValidateRole(fleet.Role(r)) != nil {
			return nil, false
		}
		roles = append(roles, fleet.Role(r))
	}
	return roles, true
}
