package hooks

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// SecretFile is the webhooks' secrets, of a file with lines
//
//	PROVIDER REPOSITORY SECRET
//
// REPOSITORY is an address in any form, or * for every repository of the
// provider; the secret is the rest of the line. Empty lines and lines with #
// are passed over. The file is read again when it has changed; while it can't
// be read, nobody is believed.
type SecretFile struct {
	path string

	mu      sync.Mutex
	size    int64
	time    time.Time
	secrets []secret
	err     error
}

// secret is what one provider signs calls about one repository with.
type secret struct {
	provider string
	key      string // the repository's; empty: any
	address  string // the repository, as it was written
	value    []byte
}

const (
	maxSecrets = 1 << 20 // bytes of the file
	minSecret  = 16      // bytes of a secret
)

// OpenSecrets reads the file at path.
func OpenSecrets(path string) (*SecretFile, error) {
	f := &SecretFile{path: path}
	_, err := f.current()
	return f, err
}

// of returns a provider's secrets. ErrUnavailable: the file can't be read now.
func (f *SecretFile) of(provider string) ([]secret, error) {
	all, err := f.current()
	if err != nil {
		return nil, fleet.Unavailable("the hub can't read its webhook secrets: %w", err)
	}
	var out []secret
	for _, s := range all {
		if s.provider == provider {
			out = append(out, s)
		}
	}
	return out, nil
}

func (f *SecretFile) current() ([]secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("webhook secrets: %w", err)
	}
	if info.Size() == f.size && info.ModTime().Equal(f.time) {
		return f.secrets, f.err
	}
	if info.Size() > maxSecrets {
		return nil, fleet.Invalid("webhook secrets: %s is larger than %d bytes", f.path, maxSecrets)
	}
	raw, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("webhook secrets: %w", err)
	}
	f.size, f.time = info.Size(), info.ModTime()
	f.secrets, f.err = parseSecrets(f.path, raw)
	return f.secrets, f.err
}

// parseSecrets never quotes a line.
func parseSecrets(path string, raw []byte) ([]secret, error) {
	var out []secret
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		bad := func(why string) error {
			return fleet.WithHint(fleet.Invalid("webhook secrets: %s line %d: %s", path, n, why),
				"a line is: PROVIDER REPOSITORY SECRET, the repository's address or * for all of the provider's")
		}
		name, rest, _ := strings.Cut(line, " ")
		address, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
		s := secret{provider: name, value: []byte(strings.TrimSpace(value))}
		if !slices.Contains(Providers(), name) {
			return nil, bad("the provider is not one of " + strings.Join(Providers(), ", "))
		}
		if address != "*" {
			key, err := fleet.RepositoryKey(address)
			if err != nil {
				return nil, bad("the second word is neither a repository's address nor *")
			}
			if s.key, s.address = key, clean(address); s.address == "" {
				return nil, bad("the second word is not an address that agents could know")
			}
		}
		if len(s.value) < minSecret {
			return nil, bad(fmt.Sprintf("the secret has fewer than %d characters: make one with: openssl rand -hex 32", minSecret))
		}
		if providers[name].basic && !bytes.Contains(s.value, []byte(":")) {
			return nil, bad("the secret is not USER:PASSWORD")
		}
		out = append(out, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fleet.Invalid("webhook secrets: %s: %w", path, err)
	}
	return out, nil
}

// covering are the secrets that may speak for what an event is about.
func covering(all []secret, ev event) []secret {
	var out []secret
	for _, s := range all {
		if s.key == "" || slices.Contains(ev.keys, s.key) || ev.tail != "" && strings.HasSuffix(s.key, "/"+ev.tail) {
			out = append(out, s)
		}
	}
	// A secret that names the repository comes before one for all.
	slices.SortStableFunc(out, func(a, b secret) int { return strings.Compare(b.key, a.key) })
	return out
}
