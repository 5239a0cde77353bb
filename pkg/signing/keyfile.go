package signing

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/ssh"
)

const opensshKeyMagic = "openssh-key-v1\x00"

// privateComment reads the comment out of an OpenSSH private key file that no
// passphrase protects. Where there is none to read it is empty.
func privateComment(file []byte) string {
	block, _ := pem.Decode(file)
	if block == nil || block.Type != "OPENSSH PRIVATE KEY" {
		return ""
	}
	body, ok := bytes.CutPrefix(block.Bytes, []byte(opensshKeyMagic))
	if !ok {
		return ""
	}
	var outer struct {
		Cipher, KDF, Options string
		Count                uint32
		Public               []byte
		Private              []byte
	}
	if ssh.Unmarshal(body, &outer) != nil || outer.Cipher != "none" || outer.Count != 1 {
		return ""
	}
	var inner struct {
		Check1, Check2 uint32
		Type           string
		Rest           []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(outer.Private, &inner) != nil || inner.Check1 != inner.Check2 {
		return ""
	}
	// The key's numbers are each a string on the wire; the comment follows.
	numbers := map[string]int{
		ssh.KeyAlgoED25519: 2, ssh.KeyAlgoECDSA256: 3, ssh.KeyAlgoECDSA384: 3, ssh.KeyAlgoECDSA521: 3, ssh.KeyAlgoRSA: 6,
	}
	left, known := numbers[inner.Type]
	if !known {
		return ""
	}
	field := struct {
		Value string
		Rest  []byte `ssh:"rest"`
	}{Rest: inner.Rest}
	for range left + 1 {
		if ssh.Unmarshal(bytes.Clone(field.Rest), &field) != nil {
			return ""
		}
	}
	return field.Value
}
