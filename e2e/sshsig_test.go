package e2e_test

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/pem"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// signApproval signs as `ssh-keygen -Y sign -n capstan-approval` does, with code
// of its own: whoever forges approvals does not use ours.
func signApproval(a fleet.Approval, keyFile string) (fleet.SignedApproval, error) {
	none := fleet.SignedApproval{}
	file, err := os.ReadFile(keyFile)
	if err != nil {
		return none, err
	}
	key, err := ssh.ParsePrivateKey(file)
	if err != nil {
		return none, err
	}
	statement, err := fleet.Canonical(a)
	if err != nil {
		return none, err
	}
	const magic, hash = "SSHSIG", "sha512"
	sum := sha512.Sum512(statement)
	signature, err := key.Sign(rand.Reader, append([]byte(magic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{
		fleet.ApprovalNamespace, "", hash, string(sum[:]),
	})...))
	if err != nil {
		return none, err
	}
	blob := append([]byte(magic), ssh.Marshal(struct {
		Version                                   uint32
		Key, Namespace, Reserved, Hash, Signature string
	}{1, string(key.PublicKey().Marshal()), fleet.ApprovalNamespace, "", hash, string(ssh.Marshal(signature))})...)
	armored := pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob})
	return fleet.SignedApproval{Statement: statement, Signature: string(armored)}, nil
}
