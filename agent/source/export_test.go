package source

import (
	"bufio"
	"bytes"
	"io"
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

// Blobless has files come when they are read, however few there are.
func Blobless(c *Config) { c.small = -1 }

// ReadAbilities gives what a server offers.
func ReadAbilities(in io.Reader) (filter bool, err error) {
	able, err := readAbilities(in)
	return able.filter, err
}

// ReadRefs gives how many references there are.
func ReadRefs(in io.Reader) (int, error) {
	refs, err := readRefs(in, 100)
	return len(refs), err
}

// ReadPackAnswer gives the pack of an answer.
func ReadPackAnswer(in io.Reader, limit int64) ([]byte, error) { return readPackAnswer(in, limit) }

// HeldFiles tells how many files a repository has that came apart from their commit.
func (r *Repository) HeldFiles() int {
	r.files.mu.Lock()
	defer r.files.mu.Unlock()
	return len(r.files.held)
}

// SetFilesClock replaces the clock that tells when a place is asked again.
func (r *Repository) SetFilesClock(now func() time.Time) { r.files.now = now }

// MovedBy tells whether a push may have moved what a ref follows.
func MovedBy(r Ref, refs []string) bool { return r.movedBy(refs) }

// Spread is within which time a push is looked at that so many agents are told
// of, where the configuration allows as much as most.
func Spread(told int, most time.Duration) time.Duration {
	c := PoolConfig{PushSpread: most}
	return c.spread(told)
}

// AfterPush is how long a push waits that so many agents are told of, so long
// after the last look.
func AfterPush(told int, most, since time.Duration) time.Duration {
	c := PoolConfig{PushSpread: most}
	return c.afterPush(told, since)
}
