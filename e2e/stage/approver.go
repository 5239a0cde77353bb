package stage

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ApproverName is who approves on this stage.
const ApproverName = "alice@example.com"

// Approver is somebody whose SSH key a spoke pins.
type Approver struct {
	Key            string // file of the private key
	AllowedSigners string // file that pins the public one
}

// NewApprover makes a key in dir for somebody who calls themselves ApproverName.
func NewApprover(dir string) (Approver, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Approver{}, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Approver{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, ApproverName)
	if err != nil {
		return Approver{}, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return Approver{}, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	a := Approver{Key: filepath.Join(dir, "alice"), AllowedSigners: filepath.Join(dir, "allowed_signers")}
	for path, content := range map[string]string{
		a.Key:            string(pem.EncodeToMemory(block)),
		a.Key + ".pub":   fmt.Sprintf("%s %s\n", line, ApproverName),
		a.AllowedSigners: fmt.Sprintf("%s %s\n", ApproverName, line),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return Approver{}, err
		}
	}
	return a, nil
}

// writeSecrets writes small files only their owner may read.
func writeSecrets(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
