package source

import (
	"bufio"
	"bytes"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// What reads a stranger's bytes is fuzzed by itself, not through a server.
var (
	ParseTree    = parseTree
	ParseCommit  = parseCommit
	ParseTag     = parseTag
	ParseParents = parseParents
	GuardPack    = guardPack
)

// ParseAddress gives the parts of an address in a row.
func ParseAddress(s string) (string, error) {
	a, err := parseAddress(s)
	return strings.Join([]string{a.scheme, a.user, a.host, a.path}, " "), err
}

// Signed gives the parts of a commit, or of a tag.
func Signed(content []byte, tag bool) (payload []byte, signature string, err error) {
	parse := signedCommit
	if tag {
		parse = signedTag
	}
	s, err := parse(content)
	return s.payload, s.signature, err
}

// ParseOpenPGPKeys gives how many keys there are.
func ParseOpenPGPKeys(b []byte) (int, error) {
	keys, err := parseOpenPGPKeys(b)
	return len(keys), err
}

// SetClock replaces a repository's clock.
func (r *Repository) SetClock(now func() time.Time) { r.now = now }

// ParseBundleHeader gives how many references there are.
func ParseBundleHeader(b []byte) (refs, needs int, size int64, err error) {
	h, err := parseBundleHeader(bufio.NewReaderSize(bytes.NewReader(b), maxBundleLine))
	return len(h.refs), len(h.needs), h.size, err
}

// CompareNames is the order of bundles.
var CompareNames = compareNames

// Unpack gives how many objects a pack holds.
func Unpack(pack []byte) (int, error) {
	all, err := unpack(pack, nil)
	return len(all), err
}

// DefaultLimits are those of a Config that sets none.
func DefaultLimits() Limits {
	var l Limits
	l.setDefaults()
	return l
}

// Held tells how many objects a repository has in memory.
func Held(s unit.Snapshot) int { return len(s.Tree.(*tree).objects) }
