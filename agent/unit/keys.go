package unit

import "context"

// KeyKind says what a data key is encrypted with.
type KeyKind string

// The kinds that SOPS knows.
const (
	KeyAge   KeyKind = "age"
	KeyAWS   KeyKind = "aws-kms"
	KeyGCP   KeyKind = "gcp-kms"
	KeyAzure KeyKind = "azure-key-vault"
	KeyVault KeyKind = "vault"
	KeyPGP   KeyKind = "pgp"
	KeyOther KeyKind = "other"
)

// WrappedKey is a data key, or a share of one, encrypted with somebody's key. A
// stranger may have written it.
type WrappedKey struct {
	Kind       KeyKind
	ID         string            // age recipient, ARN, resource name, URL, fingerprint
	Attributes map[string]string // what else names the key, by SOPS' names
	Ciphertext []byte
}

// KeyRing decrypts the data keys of one app's files. The private keys stay with
// it. It is safe for concurrent use.
type KeyRing interface {
	// Version identifies the keys there are: with others a render may come out
	// otherwise. It tells nothing secret.
	Version() string
	// Open decrypts with the first of the keys that can. A *KeysAway error says
	// that it may go better later; any other one that no key is for it, and what
	// to do (fleet.Hint).
	Open(ctx context.Context, any []WrappedKey) ([]byte, error)
}

// KeysAway says that keys can't be asked now. Nothing is wrong with what is
// encrypted.
type KeysAway struct{ Err error }

func (e *KeysAway) Error() string { return "keys can't be asked: " + e.Err.Error() }

func (e *KeysAway) Unwrap() error { return e.Err }
