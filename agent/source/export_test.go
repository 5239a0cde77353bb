package source

import (
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// What reads a stranger's bytes is fuzzed by itself, not through a server.
var (
	ParseTree   = parseTree
	ParseCommit = parseCommit
	ParseTag    = parseTag
	GuardPack   = guardPack
)

// ParseAddress gives the parts of an address in a row.
func ParseAddress(s string) (string, error) {
	a, err := parseAddress(s)
	return strings.Join([]string{a.scheme, a.user, a.host, a.path}, " "), err
}

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
