package source

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// credentials are what the server asks for, as the files had it at one time.
type credentials struct{ username, password, token string }

func (c *Config) credentials() (credentials, error) {
	var got credentials
	for _, each := range []struct {
		file string
		into *string
	}{{c.UsernameFile, &got.username}, {c.PasswordFile, &got.password}, {c.BearerTokenFile, &got.token}} {
		if each.file == "" {
			continue
		}
		var err error
		if *each.into, err = c.readSecret(each.file); err != nil {
			return credentials{}, err
		}
	}
	if got.password != "" && got.username == "" {
		got.username = "git"
	}
	return got, nil
}

func (c *Config) hasCredentials() bool { return c.PasswordFile != "" || c.BearerTokenFile != "" }

func (c credentials) none() bool { return c == credentials{} }

// auth is nil where there are no credentials.
func (c credentials) auth() transport.AuthMethod {
	switch {
	case c.token != "":
		return &githttp.TokenAuth{Token: c.token}
	case c.password != "":
		return &githttp.BasicAuth{Username: c.username, Password: c.password}
	default:
		return nil
	}
}

// hide takes the credentials out of a text: a server may say what it was sent.
func (c credentials) hide(text string) string {
	if c.none() {
		return text
	}
	basic := base64.StdEncoding.EncodeToString([]byte(c.username + ":" + c.password))
	for _, secret := range []string{c.token, basic, c.password} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

func (c *Config) readSecret(file string) (string, error) {
	b, err := c.read(file)
	if err != nil {
		return "", fleet.WithHint(fmt.Errorf("repository credentials: %w", err), "is the Secret mounted, and may the agent read it?")
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fleet.WithHint(fmt.Errorf("repository credentials: %s is empty", file), "write the credential to the Secret; it is read again at the next fetch")
	}
	return secret, nil
}
