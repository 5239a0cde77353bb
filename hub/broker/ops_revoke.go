package broker

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// OpsKey is what a credentials file for OPS is known by: its public key. The
// error is ErrInvalid and holds none of the file.
func OpsKey(creds []byte) (string, error) {
	c, err := opsClaims(creds)
	if err != nil {
		return "", err
	}
	return c.Subject, nil
}

func opsClaims(creds []byte) (*jwt.UserClaims, error) {
	token, err := jwt.ParseDecoratedJWT(creds)
	if err != nil {
		return nil, errNoCreds()
	}
	c, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, errNoCreds()
	}
	return c, nil
}

func errNoCreds() error { return fleet.Invalid("it is no credentials file of ops-creds") }

// RevokeOps makes a credential for OPS worthless, by its public key; dir holds the
// keys of the hub. A hub that runs notices within seconds and cuts whoever is
// there with it. The error is ErrInvalid.
func RevokeOps(dir, key string, now time.Time) error {
	if !nkeys.IsValidPublicUserKey(key) {
		return fleet.WithHint(fleet.Invalid("it is not a credential's key"), "ops-creds prints it, and it begins with U; the credentials file will do as well")
	}
	if _, err := os.Stat(filepath.Join(dir, opsRoleFile)); err != nil {
		return noKeysOfHub(dir, err)
	}
	path := filepath.Join(dir, opsRevokedFile)
	all, err := readRevocations(path)
	if err != nil {
		return err
	}
	all.drop(now.Add(-maxOpsLife))
	all[key] = now.Unix()
	return all.write(path)
}

// RevokeOpsFile is RevokeOps for a credentials file. One of another hub's is
// refused: nobody is to believe that it was taken back.
func RevokeOpsFile(dir string, creds []byte, now time.Time) error {
	c, err := opsClaims(creds)
	if err != nil {
		return err
	}
	k, err := readKeyring(dir)
	if errors.Is(err, os.ErrNotExist) {
		return noKeysOfHub(dir, err)
	}
	if err != nil {
		return err
	}
	if account, err := k.ops.PublicKey(); err != nil || c.IssuerAccount != account {
		return fleet.Invalid("the credentials are another hub's")
	}
	if issued := time.Unix(c.IssuedAt, 0); issued.After(now) {
		now = issued // where it was made the clock was ahead: only what was issued by then ends
	}
	return RevokeOps(dir, c.Subject, now)
}

func noKeysOfHub(dir string, err error) error {
	return fleet.WithHint(fleet.Invalid("%s holds no keys of a hub: %w", dir, err), "name the --data-dir of a hub that was started once, or the --nats-keys of hubs that share servers")
}
