package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The files of the keys that sign credentials, which can be changed for others.
// The accounts' own keys say who they are, and sign nothing an agent shows.
const (
	agentRoleFile = "agents-role-agent.nk"
	joinRoleFile  = "agents-role-join.nk"
	opsRoleFile   = "ops-role-ops.nk"
	retiredFile   = "retired.json"

	opsRevokedFile = "ops-revoked.json" // see RevokeOps
)

// retired is a key that signs no more. What it signed is good until then.
type retired struct {
	Key   string    `json:"key"` // public
	Role  string    `json:"role"`
	Until time.Time `json:"until"`
}

func readRetired(dir string) ([]retired, error) {
	data, err := os.ReadFile(filepath.Join(dir, retiredFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []retired
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", retiredFile, err)
	}
	return all, nil
}

// RotateKeys makes new keys for signing the credentials of agents, join tokens and
// OPS in a hub's directory of keys. What the old ones signed is good for the grace yet,
// in which agents get themselves new credentials, and what was retired before no
// longer than that; the seeds are gone at once. A hub that runs takes the new keys
// within seconds. The error is ErrInvalid where the directory has no keys of a hub.
func RotateKeys(dir string, grace time.Duration, now time.Time) error {
	if grace < 0 {
		return fleet.Invalid("a grace of %s is none", grace)
	}
	if _, err := os.Stat(filepath.Join(dir, "operator.nk")); err != nil {
		return fleet.WithHint(fleet.Invalid("%s holds no keys of a hub: %w", dir, err), "name the hub's --data-dir, or the --nats-keys of hubs that share servers")
	}
	k, err := openKeyring(dir)
	if err != nil {
		return err
	}
	until := now.Add(grace).UTC()
	all := slices.DeleteFunc(k.retired, func(r retired) bool { return now.After(r.Until) })
	for i := range all { // a shorter grace is for what was retired before as well
		if all[i].Until.After(until) {
			all[i].Until = until
		}
	}
	for role, key := range map[string]nkeys.KeyPair{agentRole.name: k.agentRole, joinRole.name: k.joinRole, opsRole.name: k.opsRole} {
		pub, err := key.PublicKey()
		if err != nil {
			return err
		}
		all = append(all, retired{Key: pub, Role: role, Until: until})
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	// First what is retired: a key that is retired and still signs is good; one
	// that neither signs nor is retired would cut every agent.
	if err := WriteSecret(filepath.Join(dir, retiredFile), append(data, '\n')); err != nil {
		return err
	}
	for _, name := range []string{agentRoleFile, joinRoleFile, opsRoleFile} {
		kp, err := nkeys.CreateAccount()
		if err != nil {
			return err
		}
		seed, err := kp.Seed()
		if err != nil {
			return err
		}
		if err := WriteSecret(filepath.Join(dir, name), append(seed, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// keysEvery is how often a hub looks whether its keys were changed.
const keysEvery = 2 * time.Second

func (b *Broker) keysDir() string {
	if b.cfg.external() {
		return b.cfg.Keys
	}
	return filepath.Join(b.cfg.Dir, "keys")
}

// keysState is what the keys that count were read from.
type keysState struct {
	files string // changes when the files do
	ended int    // retired keys whose time was up
}

func (b *Broker) keysFiles() string {
	var out strings.Builder
	for _, name := range []string{agentRoleFile, joinRoleFile, opsRoleFile, retiredFile, opsRevokedFile} {
		if info, err := os.Stat(filepath.Join(b.keysDir(), name)); err == nil {
			fmt.Fprintf(&out, "%s %d %d\n", name, info.ModTime().UnixNano(), info.Size())
		}
	}
	return out.String()
}

// keysEnded counts the retired keys whose time was up at a moment.
func (b *Broker) keysEnded(at time.Time) int {
	n := 0
	for _, r := range b.ring().retired {
		if at.After(r.Until) {
			n++
		}
	}
	return n
}

// watchKeys takes keys that were changed, and lets retired ones go, until the
// broker is closed.
func (b *Broker) watchKeys(was keysState) {
	t := time.NewTicker(keysEvery)
	defer t.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-t.C:
		}
		// Looked at before they are taken: what changes meanwhile is another change.
		at, files := b.cfg.Now(), b.keysFiles()
		if was == (keysState{files, b.keysEnded(at)}) {
			continue
		}
		if err := b.takeKeys(); err != nil {
			b.cfg.Log.Error("the changed keys can't be used: those from before sign on", "error", err)
		} else {
			b.cfg.Log.Info("the keys that sign credentials, or what is revoked, have changed", "retired", len(b.ring().retired))
		}
		was = keysState{files, b.keysEnded(at)}
	}
}

// takeKeys reads the keys anew and tells the server whose signatures count. It
// cuts the connections of credentials whose signer does not any more.
func (b *Broker) takeKeys() error {
	k, err := readKeyring(b.keysDir())
	if err != nil {
		return err
	}
	if !k.sameAccounts(b.ring()) {
		return fleet.Invalid("%s holds another hub's keys", b.keysDir())
	}
	b.mu.Lock()
	b.keys.Store(k)
	if b.cfg.external() {
		b.mu.Unlock()
		return b.announce(b.ctx)
	}
	defer b.mu.Unlock()
	return b.tell()
}

// tell hands the embedded server what counts in the accounts of agents and OPS.
// b.mu is held.
func (b *Broker) tell() error {
	c, err := newClaims(b.ring(), b.revoked, b.hubFrom(), b.cfg.Now())
	if err != nil {
		return err
	}
	b.claims.agents.SigningKeys, b.claims.agents.Revocations = c.agents.SigningKeys, c.agents.Revocations
	b.claims.ops.SigningKeys, b.claims.ops.Revocations = c.ops.SigningKeys, c.ops.Revocations
	if err := b.publish(); err != nil {
		return err
	}
	for _, of := range []*jwt.AccountClaims{b.claims.agents, b.claims.ops} {
		account, err := b.server.LookupAccount(of.Subject)
		if err != nil {
			return err
		}
		b.server.UpdateAccountClaims(account, of)
	}
	return nil
}

// signsFor tells whether the agents' account knows every key that signs for it.
func (b *Broker) signsFor(known *jwt.AccountClaims) bool {
	k, keys := b.ring(), known.SigningKeys.Keys()
	for pub := range k.roles {
		retired := slices.ContainsFunc(k.retired, func(r retired) bool { return r.Key == pub })
		if !retired && !slices.Contains(keys, pub) {
			return false
		}
	}
	return true
}

// sameAccounts tells whether two rings are of the same hub.
func (k *keyring) sameAccounts(o *keyring) bool {
	for _, pair := range [][2]nkeys.KeyPair{{k.operator, o.operator}, {k.sys, o.sys}, {k.hub, o.hub}, {k.agents, o.agents}, {k.ops, o.ops}} {
		a, errA := pair[0].PublicKey()
		b, errB := pair[1].PublicKey()
		if errA != nil || errB != nil || a != b {
			return false
		}
	}
	return true
}
