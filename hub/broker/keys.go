package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"
)

// keyring is the trust root of the embedded server: who may sign whom. The
// seeds lie in the data directory, readable by the hub alone, and nowhere else.
type keyring struct {
	operator nkeys.KeyPair // signs accounts
	sys      nkeys.KeyPair // account SYS
	hub      nkeys.KeyPair // account HUB: JetStream
	agents   nkeys.KeyPair // account AGENTS

	// Signing keys of AGENTS, each bound to one role's permissions.
	agentRole, joinRole, hubRole nkeys.KeyPair
}

// openKeyring reads the keys below dir, or makes them at the first start.
func openKeyring(dir string) (*keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	k := &keyring{}
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
	} {
		kp, err := openKey(filepath.Join(dir, f.name+".nk"), f.create)
		if err != nil {
			return nil, err
		}
		*f.into = kp
	}
	return k, nil
}

func openKey(path string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
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
	kp, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, fmt.Errorf("key file %s is damaged", path)
	}
	return kp, nil
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
