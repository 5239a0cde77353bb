package signing

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The failures of a signature; test with errors.Is.
var (
	ErrUnsigned       = errors.New("unsigned")
	ErrMalformed      = errors.New("malformed")
	ErrWrongNamespace = errors.New("wrong namespace")
	ErrBadSignature   = errors.New("bad signature")
)

const (
	sshsigMagic   = "SSHSIG"
	sshsigPEMType = "SSH SIGNATURE"
	sshsigVersion = 1
	// maxArmored bounds what is decoded: an RSA-16384 signature with its key
	// stays under half of it.
	maxArmored = 16 << 10
	// minRSABits is what OpenSSH calls too small today.
	minRSABits = 2048
)

// sshsigBlob and sshsigSigned are the two structures of OpenSSH's
// PROTOCOL.sshsig, each after the magic preamble.
type sshsigBlob struct {
	Version   uint32
	PublicKey string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

type sshsigSigned struct {
	Namespace string
	Reserved  string
	Hash      string
	Sum       string
}

func signedBytes(namespace, reserved, hash string, message []byte) ([]byte, error) {
	var sum []byte
	switch hash {
	case "sha512":
		s := sha512.Sum512(message)
		sum = s[:]
	case "sha256":
		s := sha256.Sum256(message)
		sum = s[:]
	default:
		return nil, fmt.Errorf("%w: hash %q is not known", ErrMalformed, hash)
	}
	body := ssh.Marshal(sshsigSigned{namespace, reserved, hash, string(sum)})
	return append([]byte(sshsigMagic), body...), nil
}

// sign makes an armored SSHSIG signature over message with sha512.
func sign(signer ssh.Signer, random io.Reader, namespace string, message []byte) (string, error) {
	if namespace == "" {
		return "", errors.New("sign: the namespace is empty")
	}
	const hash = "sha512"
	data, err := signedBytes(namespace, "", hash, message)
	if err != nil {
		return "", err
	}
	sig, err := signBytes(signer, random, data)
	if err != nil {
		return "", fmt.Errorf("sign with %s: %w", ssh.FingerprintSHA256(signer.PublicKey()), err)
	}
	blob := append([]byte(sshsigMagic), ssh.Marshal(sshsigBlob{
		Version:   sshsigVersion,
		PublicKey: string(signer.PublicKey().Marshal()),
		Namespace: namespace,
		Hash:      hash,
		Signature: string(ssh.Marshal(sig)),
	})...)
	return string(pem.EncodeToMemory(&pem.Block{Type: sshsigPEMType, Bytes: blob})), nil
}

// signBytes asks RSA keys for SHA-512: a plain Sign would use SHA-1, which
// SSHSIG forbids.
func signBytes(signer ssh.Signer, random io.Reader, data []byte) (*ssh.Signature, error) {
	if signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return signer.Sign(random, data)
	}
	with, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("this RSA key can't sign with SHA-512")
	}
	return with.SignWithAlgorithm(random, data, ssh.KeyAlgoRSASHA512)
}

// Verify checks an armored SSHSIG signature over message and returns the key
// that made it. Whether that key may sign is for the caller to decide. The
// error is ErrUnsigned, ErrMalformed, ErrWrongNamespace or ErrBadSignature.
func Verify(message []byte, armored, namespace string) (ssh.PublicKey, error) {
	blob, err := decodeArmor(armored)
	if err != nil {
		return nil, err
	}
	if blob.Namespace != namespace {
		return nil, fmt.Errorf("%w: it was made for %q, not for %q", ErrWrongNamespace, clip(blob.Namespace), namespace)
	}
	key, err := ssh.ParsePublicKey([]byte(blob.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("%w: its public key: %w", ErrMalformed, err)
	}
	if err := acceptableKey(key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal([]byte(blob.Signature), &sig); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := acceptableFormat(key, &sig); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	data, err := signedBytes(blob.Namespace, blob.Reserved, blob.Hash, message)
	if err != nil {
		return nil, err
	}
	if err := key.Verify(data, &sig); err != nil {
		return nil, fmt.Errorf("%w: it does not match what it should cover (%w)", ErrBadSignature, err)
	}
	return key, nil
}

func decodeArmor(armored string) (sshsigBlob, error) {
	var blob sshsigBlob
	text := strings.TrimSpace(armored)
	if text == "" {
		return blob, fmt.Errorf("%w: it is not signed", ErrUnsigned)
	}
	if len(text) > maxArmored {
		return blob, fmt.Errorf("%w: the signature is longer than %d bytes", ErrMalformed, maxArmored)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != sshsigPEMType || len(bytes.TrimSpace(rest)) > 0 ||
		!strings.HasPrefix(text, "-----BEGIN "+sshsigPEMType) || len(block.Headers) > 0 {
		return blob, fmt.Errorf("%w: it is not an SSH signature", ErrMalformed)
	}
	body, ok := bytes.CutPrefix(block.Bytes, []byte(sshsigMagic))
	if !ok {
		return blob, fmt.Errorf("%w: it is not an SSH signature", ErrMalformed)
	}
	if err := ssh.Unmarshal(body, &blob); err != nil {
		return blob, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if blob.Version != sshsigVersion {
		return blob, fmt.Errorf("%w: version %d of SSH signatures is not known", ErrMalformed, blob.Version)
	}
	return blob, nil
}

// acceptableFormat refuses SHA-1 RSA signatures, and bytes after the signature
// of keys that have none there: only security keys add flags and a counter,
// and x/crypto refuses theirs when nobody touched the key.
func acceptableFormat(key ssh.PublicKey, sig *ssh.Signature) error {
	if key.Type() == ssh.KeyAlgoRSA && sig.Format != ssh.KeyAlgoRSASHA512 && sig.Format != ssh.KeyAlgoRSASHA256 {
		return fmt.Errorf("algorithm %q is not accepted (SHA-1)", clip(sig.Format))
	}
	switch key.Type() {
	case ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
	default:
		if len(sig.Rest) > 0 {
			return errors.New("bytes follow it")
		}
	}
	return nil
}

// Fingerprint is the key's SHA256 fingerprint, as ssh-keygen prints it.
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(key) }

var defaultRandom = rand.Reader

// clip keeps what a stranger wrote short and on one line.
func clip(s string) string {
	const most = 80
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
