package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Secrets tells what a Secret holds. The error is fleet.ErrNotFound where there
// is none.
type Secrets interface {
	Get(ctx context.Context, namespace, name string) (map[string][]byte, error)
}

// Keys gives each app its key ring. It is safe for concurrent use.
type Keys struct {
	cfg       Config
	namespace string // the agent's own
	secrets   Secrets
	clouds    Clouds
}

// New makes Keys. namespace is the agent's own; secrets may be nil where no App
// names one, and clouds where the configuration has no keys at key services.
func New(cfg Config, namespace string, secrets Secrets, clouds Clouds) (*Keys, error) {
	return &Keys{cfg: cfg, namespace: namespace, secrets: secrets, clouds: clouds}, cfg.Validate()
}

// agekey is how the names of a Secret's entries end that are age keys.
const agekey = ".agekey"

// reserved is how the names of the agent's own Secrets begin.
const reserved = "capstan-"

// Ring gives the keys that an app may use: those of a Secret in its own
// namespace, where it names one, and otherwise the agent's own, where the
// configuration lets it. own says that it is read from the agent's own repository:
// whoever writes another one may copy ciphertexts there, and is given nothing for
// them. What is wrong with the keys is told when one is asked for; the error is a
// *unit.KeysAway.
func (k *Keys) Ring(ctx context.Context, app fleet.AppName, own bool, secret string) (unit.KeyRing, error) {
	switch {
	case secret != "":
		return k.ringOf(ctx, app, secret)
	case !own:
		return newRing(nil, fleet.WithHint(
			fleet.Forbidden("the keys of this cluster's agent are for its own repository alone, and the App %s is read from another", app),
			"name a Secret with keys of its own in spec.decryption.secretRef")), nil
	case !k.cfg.Apps.matches(app):
		return newRing(nil, fleet.WithHint(
			fleet.Forbidden("the App %s may not use the keys of this cluster's agent", app),
			"name a Secret with keys of its own in spec.decryption.secretRef, or list the App in the agent's configuration, decryption.apps.matchNames")), nil
	}
	ids, trouble := k.own()
	var why error
	if len(trouble) > 0 {
		why = fleet.WithHint(errors.New(strings.Join(trouble, "; ")), "mend decryption.age.keyFiles of the agent's configuration")
	}
	r := newRing(ids, why)
	if k.cfg.HasKMS() {
		if err := r.lend(k.cfg.KMS, k.clouds); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (k *Keys) ringOf(ctx context.Context, app fleet.AppName, secret string) (unit.KeyRing, error) {
	where := fmt.Sprintf("Secret %s/%s", app.Namespace, secret)
	if app.Namespace == k.namespace && strings.HasPrefix(secret, reserved) {
		return newRing(nil, fleet.WithHint(fleet.Forbidden("%s is the agent's own", where), "make a Secret whose name does not begin with "+reserved)), nil
	}
	data, err := k.secrets.Get(ctx, app.Namespace, secret)
	if errors.Is(err, fleet.ErrNotFound) {
		return newRing(nil, fleet.WithHint(fleet.NotFound("%s, which spec.decryption names, is not there", where),
			fmt.Sprintf("kubectl -n %s create secret generic %s --from-file=key%s", app.Namespace, secret, agekey))), nil
	}
	if err != nil {
		return nil, &unit.KeysAway{Err: fmt.Errorf("%s: %w", where, err)}
	}
	var all []identity
	var why error
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if !strings.HasSuffix(name, agekey) {
			continue
		}
		ids, err := parseIdentities(where+", "+name, data[name])
		if err != nil && why == nil {
			why = err
		}
		all = append(all, ids...)
	}
	if len(all) == 0 && why == nil {
		why = fleet.WithHint(fleet.NotFound("%s has no entry that ends in %s", where, agekey), "add an age identity under such a name")
	}
	return newRing(all, why), nil
}

// NewRing makes a ring of the keys in files, for whoever calls it by hand.
func NewRing(files []string) (unit.KeyRing, error) {
	k := Keys{cfg: Config{Age: AgeConfig{KeyFiles: files}}}
	ids, trouble := k.own()
	if len(trouble) > 0 {
		return nil, errors.New(trouble[0])
	}
	return newRing(ids, nil), nil
}

// ring is what one app may use.
type ring struct {
	identities []identity
	why        error // some are not there
	version    string

	kms    KMSConfig
	clouds Clouds // nil: only age keys are used
}

var _ unit.KeyRing = (*ring)(nil)

func newRing(ids []identity, why error) *ring {
	names := make([]string, 0, len(ids)+1)
	for _, id := range ids {
		names = append(names, id.name)
	}
	slices.Sort(names)
	if why != nil {
		names = append(names, why.Error())
	}
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return &ring{identities: ids, why: why, version: hex.EncodeToString(sum[:8])}
}

// lend adds the keys at key services.
func (r *ring) lend(kms KMSConfig, clouds Clouds) error {
	list, err := json.Marshal(kms)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte(r.version+"\n"), list...))
	r.kms, r.clouds, r.version = kms, clouds, hex.EncodeToString(sum[:8])
	return nil
}

// Version implements unit.KeyRing.
func (r *ring) Version() string { return r.version }
