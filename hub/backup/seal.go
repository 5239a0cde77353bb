package backup

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Sealing says who can read a backup. The zero value: everybody who has it.
type Sealing struct {
	Recipients     []string // age1...: public keys to write for
	IdentityFile   string   // of age keys, to read with
	PassphraseFile string   // to write and to read with, instead of both
}

// Sealed tells whether what is written is encrypted.
func (s Sealing) Sealed() bool { return len(s.Recipients) > 0 || s.PassphraseFile != "" }

// Seal encrypts what is written, for its recipients or with its passphrase. It
// has to be closed.
func (s Sealing) Seal(w io.Writer) (io.WriteCloser, error) {
	if s.PassphraseFile != "" && len(s.Recipients) > 0 {
		return nil, fleet.Invalid("a backup is encrypted for recipients or with a passphrase, not both")
	}
	var to []age.Recipient
	for _, r := range s.Recipients {
		rec, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil {
			return nil, fleet.WithHint(fleet.Invalid("recipient %q is no age public key", r), "it begins with age1: make a pair with age-keygen")
		}
		to = append(to, rec...)
	}
	if s.PassphraseFile != "" {
		phrase, err := s.passphrase()
		if err != nil {
			return nil, err
		}
		rec, err := age.NewScryptRecipient(phrase)
		if err != nil {
			return nil, fleet.Invalid("passphrase: %w", err)
		}
		to = append(to, rec)
	}
	if len(to) == 0 {
		return nopCloser{w}, nil
	}
	return age.Encrypt(w, to...)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Open decrypts what is read; what is not encrypted is read as it is.
func (s Sealing) Open(r io.Reader) (io.Reader, error) {
	in := bufio.NewReader(r)
	start, err := in.Peek(len(armor.Header))
	if err != nil && len(start) == 0 {
		return nil, notOne(err)
	}
	var sealed io.Reader = in
	switch {
	case bytes.HasPrefix(start, []byte(armor.Header)):
		sealed = armor.NewReader(in)
	case !bytes.HasPrefix(start, []byte("age-encryption.org/")):
		return in, nil
	}
	who, err := s.identities()
	if err != nil {
		return nil, err
	}
	out, err := age.Decrypt(sealed, who...)
	if err != nil {
		return nil, fleet.Invalid("the backup can't be decrypted: %w", err)
	}
	return out, nil
}

func (s Sealing) identities() ([]age.Identity, error) {
	switch {
	case s.PassphraseFile != "":
		phrase, err := s.passphrase()
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(phrase)
		if err != nil {
			return nil, fleet.Invalid("passphrase: %w", err)
		}
		return []age.Identity{id}, nil
	case s.IdentityFile != "":
		f, err := os.Open(s.IdentityFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		ids, err := age.ParseIdentities(io.LimitReader(f, 1<<20))
		if err != nil {
			return nil, fleet.Invalid("%s holds no age keys", s.IdentityFile) // the reason might quote one
		}
		return ids, nil
	}
	return nil, fleet.WithHint(fleet.Invalid("the backup is encrypted"), "name the key with --identity-file, or the passphrase with --passphrase-file")
}

func (s Sealing) passphrase() (string, error) {
	b, err := os.ReadFile(s.PassphraseFile)
	if err != nil {
		return "", err
	}
	phrase := strings.TrimRight(string(b), "\r\n")
	if len(phrase) < 12 {
		return "", fleet.Invalid("%s: a passphrase has at least 12 characters", s.PassphraseFile)
	}
	return phrase, nil
}
