package people_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

const (
	adminToken  = "token-of-jane"
	viewerToken = "token-of-vic"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func line(name, role, token string) string {
	sum := sha256.Sum256([]byte(token))
	return strings.Join([]string{name, role, "sha256:" + hex.EncodeToString(sum[:])}, " ") + "\n"
}
