package keyring

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Bounds of what a stranger asks for.
const (
	maxWrapped = 256
	maxCipher  = 16 << 10
	maxDataKey = 64
	maxNamed   = 4
	maxAsked   = 8 // keys at key services, for one data key
)

// Open implements unit.KeyRing.
func (r *ring) Open(ctx context.Context, any []unit.WrappedKey) ([]byte, error) {
	if len(any) > maxWrapped {
		return nil, fleet.Invalid("it is encrypted for more than %d keys", maxWrapped)
	}
	for _, k := range any {
		if err := ctx.Err(); err != nil {
			return nil, &unit.KeysAway{Err: err}
		}
		if k.Kind != unit.KeyAge || len(k.Ciphertext) > maxCipher {
			continue
		}
		if key := r.openAge(k.Ciphertext); key != nil {
			return key, nil
		}
	}
	key, barred, err := r.openInCloud(ctx, any)
	if err != nil || key != nil {
		return key, err
	}
	return nil, r.refusal(any, barred)
}

// openInCloud asks the key services of those keys that may be asked. It gives no
// key and no error where there is none: barred says why the first is not asked.
// One service that is away does not matter where another one answers.
func (r *ring) openInCloud(ctx context.Context, any []unit.WrappedKey) (key []byte, barred, err error) {
	if r.clouds == nil {
		return nil, nil, nil
	}
	var refused, away error
	asked := 0
	for _, k := range any {
		if k.Kind != unit.KeyAWS && k.Kind != unit.KeyGCP && k.Kind != unit.KeyAzure && k.Kind != unit.KeyVault {
			continue
		}
		q, err := r.kms.Admit(k)
		if err != nil {
			barred = cmp.Or(barred, err)
			continue
		}
		if asked++; asked > maxAsked {
			break
		}
		key, err := r.clouds.Decrypt(ctx, q)
		if err == nil {
			return key, nil, nil
		}
		if _, ok := errors.AsType[*unit.KeysAway](err); ok {
			away = cmp.Or(away, err)
			continue
		}
		refused = cmp.Or(refused, err)
	}
	return nil, barred, cmp.Or(away, refused)
}

// openAge gives nil where no identity fits.
func (r *ring) openAge(ciphertext []byte) []byte {
	if len(r.identities) == 0 {
		return nil
	}
	ids := make([]age.Identity, len(r.identities))
	for i, id := range r.identities {
		ids[i] = id.Identity
	}
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(ciphertext)), ids...)
	if err != nil {
		return nil
	}
	key, err := io.ReadAll(io.LimitReader(plain, maxDataKey+1))
	if err != nil || len(key) > maxDataKey {
		return nil
	}
	return key
}

// refusal says for whom it is encrypted, and why that is of no use here.
func (r *ring) refusal(any []unit.WrappedKey, barred error) error {
	if r.why != nil {
		return r.why
	}
	var named []string
	kinds := map[unit.KeyKind]bool{}
	for _, k := range any {
		kinds[k.Kind] = true
		if len(named) < maxNamed {
			named = append(named, fmt.Sprintf("%s %s", k.Kind, printable(k.ID)))
		}
	}
	if more := len(any) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("%d more", more))
	}
	hint := "add the private key to those this App may use here, or add a recipient of this cluster's to the file: sops updatekeys"
	if !kinds[unit.KeyAge] {
		hint = "only age keys are used here: add an age recipient to .sops.yaml and to the file: sops updatekeys"
	}
	message := "no key here is for it; it is encrypted for " + strings.Join(named, ", ")
	if barred != nil {
		message += "; " + barred.Error()
		if !kinds[unit.KeyAge] {
			hint = fleet.Hint(barred)
		}
	}
	return fleet.WithHint(fleet.NotFound("%s", message), hint)
}

// printable is a name that a stranger gave, as a message may hold it.
func printable(name string) string {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, name)
	if len(name) > 100 {
		return name[:100] + "..."
	}
	return name
}
