package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin"
)

// login is what is kept of a sign-in, for one hub.
type login struct {
	SignIn  client.SignIn `json:"signIn"`
	ID      string        `json:"id"`
	Refresh string        `json:"refresh,omitempty"`
	Expires time.Time     `json:"expires"`
}

// logins are kept by hub in one file, which is its owner's alone.
type logins struct{ path string }

// loginsFile is CAPSTAN_LOGINS, or a file in the user's configuration directory.
func (s *shell) loginsFile() (logins, error) {
	if path := s.env("CAPSTAN_LOGINS"); path != "" {
		return logins{path}, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return logins{}, fleet.WithHint(fmt.Errorf("logins: %w", err), "name a file in CAPSTAN_LOGINS, or set CAPSTAN_TOKEN")
	}
	return logins{filepath.Join(dir, "capstan", "logins.json")}, nil
}

func (l logins) read() (map[string]login, error) {
	raw, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]login{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("logins: %w", err)
	}
	all := map[string]login{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fleet.WithHint(fmt.Errorf("logins: %s can't be read", l.path), "take it away and sign in again")
	}
	return all, nil
}

// put keeps a login, or with nil forgets it.
func (l logins) put(hub string, to *login) (err error) {
	all, err := l.read()
	if err != nil {
		return err
	}
	delete(all, hub)
	if to != nil {
		all[hub] = *to
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(l.path), ".logins-*") // 0600
	if err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err != nil {
		return fmt.Errorf("logins: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

const (
	loginSlack  = 30 * time.Second // an ID token that ends sooner is not used any more
	refreshTime = 20 * time.Second
)

// signedIn is the ID token for a hub, renewed where it has ended; "" where
// nobody signed in.
func (s *shell) signedIn(hub string) (string, error) {
	file, err := s.loginsFile()
	if err != nil {
		return "", nil
	}
	all, err := file.read()
	if err != nil {
		return "", err
	}
	l, ok := all[hub]
	if !ok || l.Refresh == "" || s.now().Add(loginSlack).Before(l.Expires) {
		return l.ID, nil // of one that has ended the hub says so
	}
	p, err := provider(l.SignIn)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), refreshTime)
	defer cancel()
	tokens, err := p.Refresh(ctx, l.Refresh)
	if err != nil {
		return "", err
	}
	l.ID, l.Refresh, l.Expires = tokens.ID, tokens.Refresh, tokens.Claims.Expires
	return l.ID, file.put(hub, &l)
}

func provider(in client.SignIn) (*signin.Provider, error) {
	return signin.New(signin.Config{Issuer: in.Issuer, ClientID: in.ClientID, Scopes: in.Scopes})
}
