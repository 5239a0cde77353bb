package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

// Verify says whose signatures are asked for. The zero value asks for none. The
// files are read again for each new commit.
type Verify struct {
	OpenPGPKeysFile    string `json:"openpgpKeysFile,omitempty"`    // public keys, armored, one block after the other
	AllowedSignersFile string `json:"allowedSignersFile,omitempty"` // SSH keys, in OpenSSH's format
	Mode               string `json:"mode,omitempty"`               // VerifyCommit, the default, or VerifyTag
}

const (
	// VerifyCommit asks for a signature on the commit that is followed.
	VerifyCommit = "commit"
	// VerifyTag asks for a signature on the tag that is followed, under its name.
	VerifyTag = "tag"

	// sshNamespace is what git signs for.
	sshNamespace = "git"
	maxKeysFile  = 8 << 20
)

var errUnverified = errors.New("is not verified")

func (v Verify) on() bool { return v != Verify{} }

// Validate checks that something can be verified; ref is what is followed.
func (v Verify) Validate(ref Ref) error {
	switch {
	case !v.on():
		return nil
	case v.OpenPGPKeysFile == "" && v.AllowedSignersFile == "":
		return fleet.WithHint(fleet.Invalid("signatures are to be verified, and no keys are given"), "give a file with OpenPGP keys, or one with allowed signers, or both")
	case v.Mode != "" && v.Mode != VerifyCommit && v.Mode != VerifyTag:
		return fleet.WithHint(fleet.Invalid("%q can't be verified", v.Mode), `the mode is "commit" or "tag"`)
	case v.Mode == VerifyTag && ref.Tag == "" && ref.Semver == "":
		return fleet.WithHint(fleet.Invalid("a tag's signature is to be verified, and no tag is followed"), "follow a tag or a semver range, or verify commits")
	}
	return nil
}

// verify checks the signature of what a fetch brought.
func (v Verify) verify(got state, now time.Time) error {
	if !v.on() {
		return nil
	}
	what := "commit " + got.commit.String()
	if v.Mode == VerifyTag {
		what = "tag " + got.chosen.name
	}
	if err := v.check(got, now); err != nil {
		hint := fleet.Hint(err)
		if hint == "" {
			hint = "sign it with a key that is pinned here, or pin the key; what was verified last stays in force"
		}
		return fleet.WithHint(fleet.Forbidden("%s %w: %w", what, errUnverified, err), hint)
	}
	return nil
}

func (v Verify) check(got state, now time.Time) error {
	s, err := v.signed(got)
	if err != nil {
		return err
	}
	switch {
	case s.signature == "":
		return errors.New("it is not signed")
	case strings.HasPrefix(s.signature, "-----BEGIN SSH SIGNATURE-----"):
		return v.checkSSH(s)
	case strings.HasPrefix(s.signature, "-----BEGIN PGP SIGNATURE-----"):
		return v.checkOpenPGP(s, now)
	default:
		return errors.New("its signature is neither OpenPGP's nor SSH's")
	}
}

// signed is what the mode asks about.
func (v Verify) signed(got state) (signed, error) {
	if v.Mode != VerifyTag {
		content, err := got.objects.read(plumbing.CommitObject, got.commit)
		if err != nil {
			return signed{}, err
		}
		return signedCommit(content)
	}
	if got.chosen.tip == got.commit {
		return signed{}, errors.New("it is not an annotated tag, and such a tag can't be signed")
	}
	content, err := got.objects.read(plumbing.TagObject, got.chosen.tip)
	if err != nil {
		return signed{}, err
	}
	s, err := signedTag(content)
	if err == nil && s.name != got.chosen.name { // a signed tag under another's name
		err = fmt.Errorf("it is the tag %q under another name", plain(s.name))
	}
	return s, err
}

// checkSSH asks as git does whether the key was valid when the commit was made.
func (v Verify) checkSSH(s signed) error {
	if v.AllowedSignersFile == "" {
		return errors.New("it is signed with SSH, and no allowed signers are given")
	}
	content, err := readKeys(v.AllowedSignersFile)
	if err != nil {
		return err
	}
	allowed, err := signing.ParseAllowedSigners(v.AllowedSignersFile, content)
	if err != nil {
		return err
	}
	_, err = allowed.Verify(s.payload, s.signature, sshNamespace, s.at)
	return err
}

func (v Verify) checkOpenPGP(s signed, now time.Time) error {
	if v.OpenPGPKeysFile == "" {
		return errors.New("it is signed with OpenPGP, and no OpenPGP keys are given")
	}
	content, err := readKeys(v.OpenPGPKeysFile)
	if err != nil {
		return err
	}
	keys, err := parseOpenPGPKeys(content)
	if err != nil {
		return fleet.WithHint(fleet.Invalid("%s: %w", v.OpenPGPKeysFile, err), "it is to hold public keys as gpg --export --armor writes them")
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	err = checkOpenPGP(keys, s, config)
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return errors.New("its OpenPGP key is not pinned at this cluster")
	case err != nil:
		return errors.New(plain(strings.TrimPrefix(err.Error(), "openpgp: ")))
	}
	return nil
}

// checkOpenPGP keeps a panic in the library from ending the agent: a stranger
// wrote the signature.
func checkOpenPGP(keys openpgp.EntityList, s signed, config *packet.Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its signature is malformed: %v", p)
		}
	}()
	_, err = openpgp.CheckArmoredDetachedSignature(keys, bytes.NewReader(s.payload), strings.NewReader(s.signature), config)
	return err
}

func readKeys(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fleet.WithHint(fmt.Errorf("the keys pinned here: %w", err), "is the ConfigMap mounted?")
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxKeysFile+1))
	if err == nil && len(content) > maxKeysFile {
		err = fleet.Invalid("%s is larger than %d bytes", file, maxKeysFile)
	}
	return content, err
}

const openPGPBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// parseOpenPGPKeys reads one armored block after the other.
func parseOpenPGPKeys(content []byte) (keys openpgp.EntityList, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a public key in it is malformed: %v", p)
		}
	}()
	blocks := strings.Split(string(content), openPGPBegin)
	if len(blocks) == 1 || strings.Contains(strings.Join(blocks, ""), "-----BEGIN ") {
		return nil, errors.New("it holds no armored public keys, or something else beside them")
	}
	for _, block := range blocks[1:] {
		some, err := openpgp.ReadArmoredKeyRing(strings.NewReader(openPGPBegin + block))
		if err != nil {
			return nil, errors.New("a public key in it can't be read")
		}
		keys = append(keys, some...)
	}
	return keys, nil
}
