package clouds

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/kms"

	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// final is an error that another try does not mend.
type final struct{ error }

var errCiphertext = &final{errors.New("the encrypted data key is not as SOPS writes it")}

// decrypt asks a key service.
func decrypt(ctx context.Context, k pipe.Key) ([]byte, error) {
	text := string(k.Ciphertext)
	switch k.Kind {
	case unit.KeyAWS:
		if !isBase64(base64.StdEncoding, text) {
			return nil, errCiphertext
		}
		var bound map[string]*string
		for name, value := range k.Context {
			if bound == nil {
				bound = map[string]*string{}
			}
			bound[name] = &value
		}
		key := kms.NewMasterKeyWithProfile(k.Resource, k.Role, bound, k.Profile)
		key.EncryptedKey = text
		return key.DecryptContext(ctx)
	case unit.KeyGCP:
		if !isBase64(base64.StdEncoding, text) {
			return nil, errCiphertext
		}
		key := gcpkms.NewMasterKeyFromResourceID(k.Resource)
		key.EncryptedKey = text
		return key.DecryptContext(ctx)
	case unit.KeyAzure:
		if !isBase64(base64.RawURLEncoding, text) {
			return nil, errCiphertext
		}
		key := azkv.NewMasterKey(k.Resource, k.Name, k.Version)
		key.EncryptedKey = text
		return key.DecryptContext(ctx)
	case unit.KeyVault:
		key := hcvault.NewMasterKey(k.Resource, k.Engine, k.Name)
		key.EncryptedKey = text
		return key.DecryptContext(ctx)
	}
	return nil, &final{fmt.Errorf("keys of the kind %q are not asked here", k.Kind)}
}

func isBase64(e *base64.Encoding, text string) bool {
	b, err := e.DecodeString(text)
	return err == nil && len(b) > 0
}
