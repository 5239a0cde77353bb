package keyring

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// identity is a private key, and a name for it that may be told.
type identity struct {
	age.Identity
	name string
}

const (
	maxKeyFile  = 64 << 10
	maxKeyFiles = 256
)

// parseIdentities reads the private keys of one file: age identities, one a
// line, or an SSH key. from is used in messages, which never hold content.
func parseIdentities(from string, content []byte) ([]identity, error) {
	if len(content) > maxKeyFile {
		return nil, fleet.Invalid("%s: is larger than %d KiB", from, maxKeyFile>>10)
	}
	if bytes.Contains(content, []byte("-----BEGIN ")) {
		id, err := agessh.ParseIdentity(content)
		if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
			return nil, fleet.WithHint(fleet.Invalid("%s: the SSH key has a passphrase", from), "take it away with ssh-keygen -p, or use an age identity")
		}
		if err != nil {
			return nil, fleet.WithHint(fleet.Invalid("%s: is not an SSH private key that age can use", from), "ssh-ed25519 and ssh-rsa keys can be used")
		}
		sum := sha256.Sum256(content)
		return []identity{{id, fmt.Sprintf("ssh %x", sum[:8])}}, nil
	}
	var all []identity
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		ids, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil { // its text may hold a part of the key
			return nil, fleet.WithHint(fleet.Invalid("%s:%d: is not an age identity", from, i+1), "a line is AGE-SECRET-KEY-1... or AGE-SECRET-KEY-PQ-1..., as age-keygen writes it")
		}
		for _, id := range ids {
			all = append(all, identity{id, nameOf(id)})
		}
	}
	if len(all) == 0 {
		return nil, fleet.WithHint(fleet.Invalid("%s: holds no age identity", from), "age-keygen makes one")
	}
	return all, nil
}

func nameOf(id age.Identity) string {
	switch id := id.(type) {
	case *age.X25519Identity:
		return id.Recipient().String()
	case *age.HybridIdentity:
		return id.Recipient().String()
	}
	return fmt.Sprintf("%T", id)
}

// own are the keys that the agent's configuration names. Files that can't be
// read are told, and the others count.
func (k *Keys) own() ([]identity, []string) {
	var all []identity
	var trouble []string
	for _, name := range k.cfg.Age.KeyFiles {
		files, err := filesAt(name)
		if err != nil {
			trouble = append(trouble, err.Error())
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err == nil {
				var ids []identity
				ids, err = parseIdentities(file, content)
				all = append(all, ids...)
			}
			if err != nil {
				trouble = append(trouble, err.Error())
			}
		}
	}
	return all, trouble
}

// filesAt is a file, or those in a directory. What Kubernetes keeps hidden beside
// a mounted Secret's files does not count.
func filesAt(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		if _, serr := os.Stat(name); serr != nil {
			return nil, serr
		}
		return []string{name}, nil
	}
	var files []string
	for _, e := range entries {
		full := filepath.Join(name, e.Name())
		if info, err := os.Stat(full); strings.HasPrefix(e.Name(), ".") || err != nil || !info.Mode().IsRegular() {
			continue
		}
		if files = append(files, full); len(files) > maxKeyFiles {
			return nil, fleet.Invalid("%s: holds more than %d files", name, maxKeyFiles)
		}
	}
	slices.Sort(files)
	return files, nil
}
