package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// RotateCA makes a new CA beside the one in a hub's directory of TLS. For the
// grace the old one signs yet, and agents are told both with their heartbeats;
// then the new one signs, and they are told that alone. An agent that was away
// for all of the grace has to join anew. A hub that runs notices by itself, and
// one that is made before the last has begun to sign takes that one's place.
// The error is ErrInvalid where the directory has no CA of a hub.
func RotateCA(dir string, grace time.Duration, now time.Time) error {
	if grace < 0 || grace > agentLife {
		return fleet.Invalid("a grace of %s is not between 0 and %s", grace, agentLife)
	}
	if err := promote(dir, now); err != nil {
		return err
	}
	if !hasSigner(dir) {
		return fleet.WithHint(fleet.Invalid("%s holds no CA of a hub", dir),
			"name the --data-dir of a hub that made its own; with --nats-tls-cert the CA is yours to change: see docs/hub.md")
	}
	old, err := readSigner(dir, now)
	if err != nil {
		return err
	}
	next, err := newSigner(old.cert.Subject, now.Add(grace))
	if err != nil {
		return err
	}
	secret, err := next.keyPEM()
	if err != nil {
		return err
	}
	return WriteSecret(filepath.Join(dir, caNextFile), append(secret, next.pem...))
}

// readNext reads the CA that comes. ErrNotExist: there is none.
func readNext(dir string) (*signer, error) {
	text, err := os.ReadFile(filepath.Join(dir, caNextFile))
	if err != nil {
		return nil, err
	}
	s, err := parseSigner(text, text)
	if err != nil {
		return nil, damaged(filepath.Join(dir, caNextFile), err)
	}
	return s, nil
}

// promote puts the CA that was to come in the place of the one before, once its
// time has come. Its own file goes last: until then this can be done again.
func promote(dir string, now time.Time) error {
	next, err := readNext(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if now.Before(next.from()) {
		return keepPrivate(filepath.Join(dir, caNextFile), 0o600)
	}
	if err := next.write(dir); err != nil {
		return fmt.Errorf("the hub's new CA: %w", err)
	}
	return os.Remove(filepath.Join(dir, caNextFile))
}

// look notices a CA that is to come, and one whose time has come. What can't be
// used is said once, and the CA there is signs on. a.mu is held.
func (a *authority) look() {
	now := a.now()
	if a.next != nil && !now.Before(a.next.from()) {
		a.ca, a.next, a.server = a.next, nil, nil
		a.log.Info("the hub's new CA signs from now on")
		if err := promote(a.dir, now); err != nil {
			a.log.Error("the hub's new CA can't take the place of the one before on disk", "error", err)
		}
	}
	if age := now.Sub(a.looked); age >= 0 && age < lookEvery {
		return
	}
	a.looked = now
	stamp := ""
	if info, err := os.Stat(filepath.Join(a.dir, caNextFile)); err == nil {
		stamp = fmt.Sprint(info.ModTime().UnixNano(), info.Size())
	}
	if stamp == a.stamp {
		return
	}
	a.stamp = stamp
	next, err := readNext(a.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Error("the hub's new CA can't be used: the one from before stays", "error", err)
		return
	}
	if a.next = next; next != nil {
		a.log.Info("there is a new CA: agents are told to trust it as well", "signs from", next.from())
	}
}
