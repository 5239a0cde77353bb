package people

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// AdminName is the name of the token that EnsureAdminToken makes.
const AdminName = "admin"

// TokensFile is where in dir EnsureAdminToken keeps hashes: OpenTokens reads it.
func TokensFile(dir string) string { return filepath.Join(dir, "tokens") }

// EnsureAdminToken sees to it that dir/tokens has an admin's token. Where it
// has none, one is made, and its clear text is in dir/admin.token and nowhere
// else. path is that file, or "" when somebody has taken it away since.
func EnsureAdminToken(dir string) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	clear := filepath.Join(dir, "admin.token")
	raw, err := os.ReadFile(TokensFile(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("admin token: %w", err)
	}
	entries, err := parseTokens(TokensFile(dir), raw)
	if err != nil {
		return "", err
	}
	token, err := os.ReadFile(clear)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return "", fmt.Errorf("admin token: %w", err)
	}
	switch known := slices.ContainsFunc(entries, func(e tokenEntry) bool { return e.name == AdminName }); {
	case known && missing:
		return "", nil
	case known:
		return clear, nil
	case missing:
		token = newToken()
		// The clear text first: a hash that nobody has the token of lets nobody in.
		if err := writeWhole(clear, token); err != nil {
			return "", fmt.Errorf("admin token: %w", err)
		}
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(string(token))))
	if len(raw) > 0 && raw[len(raw)-1] != '\n' {
		raw = append(raw, '\n')
	}
	raw = fmt.Appendf(raw, "%s %s sha256:%s\n", AdminName, fleet.RoleAdmin, hex.EncodeToString(sum[:]))
	if err := writeWhole(TokensFile(dir), raw); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	return clear, nil
}

// newToken has 256 random bits, so that a plain hash of it keeps it.
func newToken() []byte {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return []byte("capstan_" + base64.RawURLEncoding.EncodeToString(b[:]) + "\n")
}

// writeWhole puts a file in place whole or not at all, for its owner alone.
func writeWhole(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return f.Close()
}
