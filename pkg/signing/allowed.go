package signing

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// AllowedSigners says whose signatures count: the keys pinned at a spoke, in
// the format of OpenSSH's allowed_signers files. The zero value allows nobody.
type AllowedSigners struct {
	entries []allowedEntry
	people  map[string]string // principal -> the name its person goes by
}

type allowedEntry struct {
	principals  []string
	key         ssh.PublicKey
	wire        []byte
	namespaces  []string // empty: all
	validAfter  time.Time
	validBefore time.Time
}

// ParseAllowedSigners reads an allowed_signers file. name is used in errors,
// which are ErrInvalid and name the line. Differences from OpenSSH: a
// principal is one person, so wildcards are refused; so are certificate
// authorities; a time without a trailing Z is UTC, wherever the file is read.
func ParseAllowedSigners(name string, data []byte) (*AllowedSigners, error) {
	a := &AllowedSigners{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		entry, err := parseAllowedLine(text)
		if err != nil {
			return nil, fleet.WithHint(fleet.Invalid("%s:%d: %w", name, number, err),
				"a line is: PRINCIPAL[,PRINCIPAL] [OPTIONS] KEYTYPE BASE64-KEY [COMMENT]")
		}
		a.entries = append(a.entries, entry)
	}
	a.people = a.joinPeople()
	return a, nil
}

func parseAllowedLine(text string) (allowedEntry, error) {
	var e allowedEntry
	principals, rest, err := cutField(text)
	if err != nil {
		return e, err
	}
	for p := range strings.SplitSeq(principals, ",") {
		switch {
		case p == "":
			return e, fmt.Errorf("a principal is empty")
		case strings.ContainsAny(p, "*?!"):
			return e, fmt.Errorf("principal %q has a wildcard: each person is named", clip(p))
		case strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\ufffd' }):
			return e, fmt.Errorf("principal %q is not a name", clip(p))
		}
		e.principals = append(e.principals, p)
	}
	if !startsWithKeyType(rest) {
		if word, _, _ := strings.Cut(rest, " "); strings.HasPrefix(word, "ssh-") {
			return e, fmt.Errorf("keys of type %s are not accepted", clip(word))
		}
		var options string
		if options, rest, err = cutOptions(rest); err != nil {
			return e, err
		}
		if err := e.setOptions(options); err != nil {
			return e, err
		}
	}
	if !startsWithKeyType(rest) {
		return e, fmt.Errorf("no public key of a known type follows the principals")
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil || len(options) > 0 {
		return e, fmt.Errorf("the public key can't be read")
	}
	if err := acceptableKey(key); err != nil {
		return e, err
	}
	e.key, e.wire = key, key.Marshal()
	return e, nil
}

// cutField takes the first word, which may be in double quotes.
func cutField(s string) (field, rest string, err error) {
	if after, quoted := strings.CutPrefix(s, `"`); quoted {
		field, rest, ok := strings.Cut(after, `"`)
		if !ok {
			return "", "", fmt.Errorf("a quote is not closed")
		}
		return field, strings.TrimLeft(rest, " \t"), nil
	}
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return "", "", fmt.Errorf("no public key follows the principals")
	}
	return s[:i], strings.TrimLeft(s[i:], " \t"), nil
}

// cutOptions takes the options: they end at the first blank outside of quotes.
func cutOptions(s string) (options, rest string, err error) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ' ' || s[i] == '\t'):
			return s[:i], strings.TrimLeft(s[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", fmt.Errorf("a quote is not closed")
	}
	return "", "", fmt.Errorf("no public key of a known type follows the principals")
}

func startsWithKeyType(s string) bool {
	i := strings.IndexAny(s, " \t")
	return i > 0 && slices.Contains(keyTypes, s[:i])
}

var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSA,
}

func (e *allowedEntry) setOptions(options string) error {
	seen := map[string]bool{}
	for options != "" {
		var option string
		option, options = cutOption(options)
		key, value, hasValue := strings.Cut(option, "=")
		key = strings.ToLower(key)
		if seen[key] {
			return fmt.Errorf("option %q is given twice", clip(key))
		}
		seen[key] = true
		if err := e.setOption(key, strings.Trim(value, `"`), hasValue); err != nil {
			return err
		}
	}
	if !e.validAfter.IsZero() && !e.validBefore.IsZero() && !e.validBefore.After(e.validAfter) {
		return fmt.Errorf("valid-before is not later than valid-after: the key would never count")
	}
	return nil
}

func cutOption(s string) (first, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func (e *allowedEntry) setOption(key, value string, hasValue bool) (err error) {
	switch {
	case key == "cert-authority":
		return fmt.Errorf("cert-authority is not supported: name each person's own key")
	case key == "namespaces" && hasValue:
		for n := range strings.SplitSeq(value, ",") {
			if strings.ContainsAny(n, "*?!") || n == "" {
				return fmt.Errorf("namespaces=%q: write each namespace out, without wildcards", clip(value))
			}
			e.namespaces = append(e.namespaces, n)
		}
	case key == "valid-after" && hasValue:
		e.validAfter, err = parseSignerTime(value)
	case key == "valid-before" && hasValue:
		e.validBefore, err = parseSignerTime(value)
	default:
		return fmt.Errorf("option %q is not known", clip(key))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// parseSignerTime reads YYYYMMDD or YYYYMMDDHHMM[SS], with or without Z.
func parseSignerTime(s string) (time.Time, error) {
	digits := strings.TrimSuffix(s, "Z")
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			if t, err := time.Parse(layout, digits); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("time %q is not of the form YYYYMMDD[HHMM[SS]][Z]", clip(s))
}

// Principals lists everybody who is named, sorted.
func (a *AllowedSigners) Principals() []string {
	if a == nil {
		return nil
	}
	var all []string
	for _, e := range a.entries {
		all = append(all, e.principals...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Lookup lists the principals a key (authorized_keys form) is pinned for.
func (a *AllowedSigners) Lookup(public string) ([]string, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		return nil, fleet.Invalid("public key: %w", err)
	}
	return a.principalsOf(key), nil
}

func (a *AllowedSigners) principalsOf(key ssh.PublicKey) []string {
	if a == nil {
		return nil
	}
	wire := key.Marshal()
	var all []string
	for _, e := range a.entries {
		if bytes.Equal(e.wire, wire) {
			all = append(all, e.principals...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Person names the human behind a principal. Principals that share a key are
// one person: whoever holds that key can sign as each of them, and must not
// make a quorum alone. A principal that is not known is its own person.
func (a *AllowedSigners) Person(principal string) string {
	if a != nil {
		if p, ok := a.people[principal]; ok {
			return p
		}
	}
	return principal
}

// joinPeople gives each principal the first name, in order of the alphabet,
// among all it is tied to by shared keys.
func (a *AllowedSigners) joinPeople() map[string]string {
	names := map[string]string{}
	for _, p := range a.Principals() {
		names[p] = p
	}
	for changed := true; changed; {
		changed = false
		for _, e := range a.entries {
			all := a.principalsOf(e.key)
			first := names[all[0]]
			for _, p := range all {
				first = min(first, names[p])
			}
			for _, p := range all {
				if names[p] != first {
					names[p], changed = first, true
				}
			}
		}
	}
	return names
}
