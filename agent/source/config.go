package source

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
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

// auth reads the credentials as they are now; nil is none.
func (c *Config) auth() (githttp.AuthMethod, error) {
	switch {
	case c.BearerTokenFile != "":
		token, err := readSecret(c.BearerTokenFile)
		if err != nil {
			return nil, err
		}
		return &githttp.TokenAuth{Token: token}, nil
	case c.PasswordFile != "":
		basic := &githttp.BasicAuth{Username: "git"}
		var err error
		if c.UsernameFile != "" {
			if basic.Username, err = readSecret(c.UsernameFile); err != nil {
				return nil, err
			}
		}
		if basic.Password, err = readSecret(c.PasswordFile); err != nil {
			return nil, err
		}
		return basic, nil
	default:
		return nil, nil // no credentials is not an error
	}
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
