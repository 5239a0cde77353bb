package signing

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// Verify checks an armored SSHSIG signature over message, and that a key pinned
// for the namespace at that time made it. Of several people who have the key,
// the first by name is told. The error is a *Refusal.
func (a *AllowedSigners) Verify(message []byte, armored, namespace string, at time.Time) (Signer, error) {
	key, err := Verify(message, armored, namespace)
	if err != nil {
		return Signer{}, refuseSignature(err)
	}
	return a.signer(key, namespace, at)
}

func (a *AllowedSigners) signer(key ssh.PublicKey, namespace string, at time.Time) (Signer, error) {
	people := a.principalsOf(key)
	if len(people) == 0 {
		return Signer{}, refuse(ErrNotPinned, "its key %s is not pinned at this cluster", Fingerprint(key))
	}
	var why error
	for _, p := range people {
		if why = a.check(key, p, namespace, at); why == nil {
			return Signer{Principal: p, Fingerprint: Fingerprint(key)}, nil
		}
	}
	return Signer{}, why
}
