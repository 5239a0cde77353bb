package sops

import (
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/getsops/sops/v3/shamir"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Error says what is wrong with an encrypted file. It holds no content, neither
// encrypted nor decrypted.
type Error struct {
	Line    int    // 0: not known
	Path    string // of the value, as spec.data.password; "": of the whole file
	Message string
	Hint    string
}

func (e *Error) Error() string {
	if e.Path != "" {
		return e.Path + ": " + e.Message
	}
	return e.Message
}

// format is how a file is written.
type format interface {
	// emit writes the file without its metadata.
	emit(documents []*yaml.Node) ([]byte, error)
}

// File is one that SOPS encrypted.
type File struct {
	meta      metadata
	documents []*yaml.Node // mappings, without the metadata
	format    format
}

// Plain is what a file is once it is decrypted.
type Plain struct {
	Content []byte
	Values  []string // that were encrypted
}

// Ask has a data key, or a share of it, decrypted with any one of the keys. An
// error whose Again() is true may go away by itself.
type Ask func(any []unit.WrappedKey) ([]byte, error)

// Decrypt decrypts the file's values and checks that none was changed since it
// was encrypted. An error is an *Error, or the one that ask gave.
func (f *File) Decrypt(ask Ask) (Plain, error) {
	key, err := f.meta.dataKey(ask)
	if err != nil {
		return Plain{}, err
	}
	w := walker{key: key, rules: &f.meta.rules, mac: sha512.New()}
	if f.meta.rules.macOnlyEncrypted {
		w.mac.Write(macOnlyEncrypted)
	}
	for _, doc := range f.documents {
		if err := w.mapping(doc, nil); err != nil {
			return Plain{}, err
		}
	}
	want, err := f.meta.openMAC(key)
	if err != nil {
		return Plain{}, err
	}
	if got := fmt.Sprintf("%X", w.mac.Sum(nil)); subtle.ConstantTimeCompare([]byte(want), []byte(got)) != 1 {
		return Plain{}, &Error{
			Message: "the file's MAC is another one: a value was changed, moved or taken away after it was encrypted",
			Hint:    "change encrypted files with sops edit, and resolve merge conflicts by encrypting anew",
		}
	}
	content, err := f.format.emit(f.documents)
	if err != nil {
		return Plain{}, &Error{Message: "it can't be written once it is decrypted"}
	}
	return Plain{Content: content, Values: w.values}, nil
}

// macOnlyEncrypted is what a MAC that leaves plain values out begins with (the
// SHA-256 of "sops"), so that it is never one that takes them in.
var macOnlyEncrypted = []byte{
	0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0xb,
	0xb, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
}

const keySize = 32

// dataKey puts the key that the values are encrypted with together from what
// the key groups give.
func (m *metadata) dataKey(ask Ask) ([]byte, error) {
	if len(m.groups) == 1 {
		key, err := ask(m.groups[0])
		if err == nil && len(key) != keySize {
			err = &Error{Message: fmt.Sprintf("its data key has %d bytes, and not %d", len(key), keySize)}
		}
		return key, err
	}
	need := m.threshold
	if need == 0 {
		need = len(m.groups)
	}
	var shares [][]byte
	var missing []error // a group's key that is away does not matter where others are enough
	for _, group := range m.groups {
		if len(shares) == need {
			break
		}
		share, err := ask(group)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		shares = append(shares, share)
	}
	if len(shares) < need {
		return nil, toTell(missing)
	}
	key, err := shamir.Combine(shares)
	if err != nil || len(key) != keySize {
		return nil, &Error{Message: "the shares of its key groups make no data key"}
	}
	return key, nil
}

// toTell is one error of several: one that may go away by itself, if there is any.
func toTell(all []error) error {
	for _, err := range all {
		var passing interface{ Again() bool }
		if errors.As(err, &passing) && passing.Again() {
			return err
		}
	}
	return all[0]
}

// Recipients names the keys that the file was encrypted for.
func (f *File) Recipients() []string {
	var all []string
	for _, group := range f.meta.groups {
		for _, k := range group {
			all = append(all, k.ID)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
