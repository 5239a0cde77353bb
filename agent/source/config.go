package source

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const defaultTimeout = 2 * time.Minute

// Config says where a repository is and how to read it.
type Config struct {
	URL    string // http or https, without credentials
	Branch string

	// Files with what the server asks for: a user's name and password, or a
	// bearer token. They are read again at each fetch, so that they may rotate.
	// Without UsernameFile the user is "git", which servers that take a token
	// as the password accept.
	UsernameFile, PasswordFile string
	BearerTokenFile            string

	CAFile  string        // certificates to trust besides the system's; read again at each fetch
	Limits  Limits        // zero fields: defaults
	Timeout time.Duration // of one fetch; 0: two minutes
}

func (c *Config) setDefaults() {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	c.Limits.setDefaults()
}

func (c *Config) validate() error {
	if err := validateURL(c.URL); err != nil {
		return err
	}
	if c.Branch == "" {
		return fleet.WithHint(fleet.Invalid("no branch to follow is given"), `name one, like "main"`)
	}
	if err := c.ref().Validate(); err != nil {
		return fleet.WithHint(fleet.Invalid("branch %q is not a branch's name", c.Branch), `write it like "main", without refs/heads/ or spaces`)
	}
	if c.UsernameFile != "" && c.PasswordFile == "" {
		return fleet.WithHint(fleet.Invalid("a file with the username is given, but none with the password"), "give both")
	}
	if c.PasswordFile != "" && c.BearerTokenFile != "" {
		return fleet.WithHint(fleet.Invalid("both a password and a bearer token are given"), "give one of them: most Git servers take a token as the password")
	}
	return nil
}

func (c *Config) ref() plumbing.ReferenceName { return plumbing.NewBranchReferenceName(c.Branch) }

// validateURL never repeats the URL where it may hold a credential.
func validateURL(s string) error {
	if s == "" {
		return fleet.WithHint(fleet.Invalid("no repository is given"), "give its URL, like https://git.example.com/fleet.git")
	}
	u, err := url.Parse(s)
	if err != nil {
		// Not the parser's error: it quotes the URL.
		return fleet.WithHint(fleet.Invalid("the repository's URL can't be read"), "write it like https://git.example.com/fleet.git; ssh addresses are not supported")
	}
	switch {
	case u.User != nil:
		return fleet.WithHint(fleet.Invalid("the repository's URL has credentials in it"),
			"take them out of the URL, and give the files that hold the username and the password")
	case u.Scheme != "http" && u.Scheme != "https":
		return fleet.WithHint(fleet.Invalid("repositories are read over http and https only"), "write the URL like https://git.example.com/fleet.git")
	case u.Host == "":
		return fleet.WithHint(fleet.Invalid("the repository's URL names no host"), "write it like https://git.example.com/fleet.git")
	case u.RawQuery != "" || u.Fragment != "":
		return fleet.WithHint(fleet.Invalid("the repository's URL has something after its path"), "end it before ? and #; a branch is set apart from the URL")
	}
	return nil
}

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
		if *each.into, err = readSecret(each.file); err != nil {
			return credentials{}, err
		}
	}
	if got.password != "" && got.username == "" {
		got.username = "git"
	}
	return got, nil
}

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

func readSecret(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fleet.WithHint(fmt.Errorf("repository credentials: %w", err), "is the Secret mounted, and may the agent read it?")
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fleet.WithHint(fmt.Errorf("repository credentials: %s is empty", file), "write the credential to the Secret; it is read again at the next fetch")
	}
	return secret, nil
}
