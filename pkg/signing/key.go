package signing

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Key is an SSH key that can sign, from a file or in an SSH agent.
type Key struct {
	signer  ssh.Signer
	comment string
	close   func() error
}

// Passphrase asks a person for the passphrase of the key file at path.
type Passphrase func(path string) ([]byte, error)

// LoadKey reads a private key file: Ed25519, ECDSA or RSA, in OpenSSH's or
// PEM's form. ask is called when the file is protected; nil refuses such a
// file. The comment is the one in path+".pub", or else in the file itself.
func LoadKey(path string, ask Passphrase) (*Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		signer, err = unlock(path, data, ask)
	}
	if err != nil {
		if _, _, _, _, pubErr := ssh.ParseAuthorizedKey(data); pubErr == nil {
			return nil, fleet.WithHint(fmt.Errorf("key %s: this is a public key", path),
				"name the private key file, or leave it in an SSH agent and name the public one")
		}
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	if err := acceptableKey(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	comment := cmp.Or(publicComment(path+".pub", signer.PublicKey()), privateComment(data))
	return &Key{signer: signer, comment: comment}, nil
}

func unlock(path string, data []byte, ask Passphrase) (ssh.Signer, error) {
	if ask == nil {
		return nil, fleet.WithHint(errors.New("it is protected by a passphrase, and nobody is there to ask"),
			"add it to an SSH agent (ssh-add) and name its public key file instead")
	}
	phrase, err := ask(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKeyWithPassphrase(data, phrase)
	if err != nil {
		return nil, errors.New("the passphrase does not open it")
	}
	return signer, nil
}

// publicComment reads the comment of a public key file, if it is that key's.
func publicComment(path string, key ssh.PublicKey) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "" // no such file: the key has no comment we know
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil || !bytes.Equal(public.Marshal(), key.Marshal()) {
		return ""
	}
	return comment
}

// AgentKey finds a key in the SSH agent that listens at socket. public is the
// wanted key in authorized_keys form; empty takes the agent's only key. The
// error is fleet.ErrNotFound where the agent has no such key.
func AgentKey(ctx context.Context, socket, public string) (*Key, error) {
	if socket == "" {
		return nil, fleet.WithHint(fleet.NotFound("no SSH agent is running (SSH_AUTH_SOCK is not set)"),
			"name a private key file, or start ssh-agent and add a key with ssh-add")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("SSH agent: %w", err)
	}
	key, err := pickAgentKey(agent.NewClient(conn), public)
	if err != nil {
		_ = conn.Close() // the error that counts is err
		return nil, err
	}
	key.close = conn.Close
	return key, nil
}

func pickAgentKey(client agent.ExtendedAgent, public string) (*Key, error) {
	listed, err := client.List()
	if err != nil {
		return nil, fmt.Errorf("SSH agent: %w", err)
	}
	signers, err := client.Signers()
	if err != nil {
		return nil, fmt.Errorf("SSH agent: %w", err)
	}
	var want []byte
	if public != "" {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
		if err != nil {
			return nil, fleet.Invalid("SSH agent: the wanted public key: %w", err)
		}
		want = key.Marshal()
	} else if len(signers) != 1 {
		return nil, fleet.WithHint(fleet.NotFound("the SSH agent holds %d keys", len(signers)), "say which: name its public key file")
	}
	for _, s := range signers {
		wire := s.PublicKey().Marshal()
		if want != nil && !bytes.Equal(wire, want) {
			continue
		}
		key := &Key{signer: s}
		for _, l := range listed {
			if bytes.Equal(l.Blob, wire) {
				key.comment = l.Comment
			}
		}
		return key, acceptableKey(s.PublicKey())
	}
	return nil, fleet.WithHint(fleet.NotFound("the SSH agent does not hold that key"), "add it with ssh-add")
}

// Comment is what the key's owner wrote beside it, often a mail address.
func (k *Key) Comment() string { return k.comment }

// Fingerprint is the key's SHA256 fingerprint.
func (k *Key) Fingerprint() string { return Fingerprint(k.signer.PublicKey()) }

// Public is the public half, in authorized_keys form without a comment.
func (k *Key) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// Sign makes an armored SSHSIG signature, as `ssh-keygen -Y sign -n namespace`.
func (k *Key) Sign(namespace string, message []byte) (string, error) {
	return sign(k.signer, defaultRandom, namespace, message)
}

// Close ends the connection to the SSH agent, if there is one.
func (k *Key) Close() error {
	if k.close == nil {
		return nil
	}
	return k.close()
}

// acceptableKey refuses keys that OpenSSH itself no longer trusts.
func acceptableKey(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		// An SSH agent's keys don't show their numbers until parsed again.
		parsed, err := ssh.ParsePublicKey(key.Marshal())
		if err != nil {
			return err
		}
		if c, ok := parsed.(ssh.CryptoPublicKey); ok {
			if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() >= minRSABits {
				return nil
			}
		}
		return fmt.Errorf("RSA keys under %d bits are not accepted", minRSABits)
	default:
		return fmt.Errorf("keys of type %s are not accepted", clip(key.Type()))
	}
}
