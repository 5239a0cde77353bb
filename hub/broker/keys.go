package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// keyring is the trust root of the embedded server: who may sign whom. The
// seeds lie in the data directory, readable by the hub alone, and nowhere else.
type keyring struct {
	operator nkeys.KeyPair // signs accounts
	sys      nkeys.KeyPair // account SYS
	hub      nkeys.KeyPair // account HUB: JetStream
	agents   nkeys.KeyPair // account AGENTS
	ops      nkeys.KeyPair // account OPS

	// Signing keys of AGENTS, each bound to one role's permissions.
	agentRole, joinRole, hubRole nkeys.KeyPair

	// Signing keys of OPS, likewise.
	opsRole, opsHub nkeys.KeyPair

	retired    []retired
	opsRevoked revocations // credentials of OPS

	issuer string            // public key of agentRole
	roles  map[string]string // of AGENTS, by public key of what signs for them, or did
	forOps string            // public key of opsRole
}

// openKeyring reads the keys below dir, or makes them at the first start.
func openKeyring(dir string) (*keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := keepPrivate(dir, 0o700); err != nil {
		return nil, err
	}
	return loadKeyring(dir, true)
}

// readKeyring reads keys that have to be there.
func readKeyring(dir string) (*keyring, error) { return loadKeyring(dir, false) }

func loadKeyring(dir string, create bool) (_ *keyring, err error) {
	k := &keyring{}
	if k.retired, err = readRetired(dir); err != nil {
		return nil, err
	}
	if k.opsRevoked, err = readRevocations(filepath.Join(dir, opsRevokedFile)); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name   string
		create func() (nkeys.KeyPair, error)
		into   *nkeys.KeyPair
	}{
		{"operator", nkeys.CreateOperator, &k.operator},
		{"sys", nkeys.CreateAccount, &k.sys},
		{"hub", nkeys.CreateAccount, &k.hub},
		{"agents", nkeys.CreateAccount, &k.agents},
		{"agents-role-agent", nkeys.CreateAccount, &k.agentRole},
		{"agents-role-join", nkeys.CreateAccount, &k.joinRole},
		{"agents-role-hub", nkeys.CreateAccount, &k.hubRole},
		{"ops", nkeys.CreateAccount, &k.ops},
		{"ops-role-ops", nkeys.CreateAccount, &k.opsRole},
		{"ops-role-hub", nkeys.CreateAccount, &k.opsHub},
	} {
		if !create {
			f.create = nil
		}
		kp, err := openKey(filepath.Join(dir, f.name+".nk"), f.create)
		if err != nil {
			return nil, err
		}
		*f.into = kp
	}
	return k, k.name()
}

// name notes who signs for which role.
func (k *keyring) name() (err error) {
	if k.issuer, err = k.agentRole.PublicKey(); err != nil {
		return err
	}
	joins, err := k.joinRole.PublicKey()
	if err != nil {
		return err
	}
	if k.forOps, err = k.opsRole.PublicKey(); err != nil {
		return err
	}
	k.roles = map[string]string{}
	for _, r := range k.retired {
		if r.Role != opsRole.name {
			k.roles[r.Key] = r.Role
		}
	}
	k.roles[k.issuer], k.roles[joins] = agentRole.name, joinRole.name
	return nil
}

// openKey reads a key; create, if it is not nil, makes one that is not there.
func openKey(path string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create != nil {
		kp, err := create()
		if err != nil {
			return nil, err
		}
		if seed, err = kp.Seed(); err != nil {
			return nil, err
		}
		return kp, WriteSecret(path, append(seed, '\n'))
	}
	if err != nil {
		return nil, err
	}
	if err := keepPrivate(path, 0o600); err != nil {
		return nil, err
	}
	kp, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, fmt.Errorf("key file %s is damaged", path)
	}
	return kp, nil
}

// keepPrivate takes a file or directory away from everybody but its owner. Where
// that can't be done, as on a volume that Kubernetes mounts for a group, the
// group may keep it, and nobody else.
func keepPrivate(path string, mode fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(path, mode); err != nil && info.Mode().Perm()&0o007 != 0 {
		return fleet.WithHint(fmt.Errorf("%s is open to everybody on this machine: %w", path, err),
			fmt.Sprintf("chmod %o %s; of a Secret that is mounted, set defaultMode: 0440", mode, path))
	}
	return nil
}

// WriteSecret writes a file that only its owner may read, whole or not at all.
func WriteSecret(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone after the rename
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
