package source

import (
	"net/url"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const defaultTimeout = 2 * time.Minute

// Config says where a repository is and how to read it.
type Config struct {
	URL string // http or https, without credentials
	Ref Ref    // what is followed

	// Files with what the server asks for: a user's name and password, or a
	// bearer token. They are read again at each fetch, so that they may rotate.
	// Without UsernameFile the user is "git", which servers that take a token
	// as the password accept.
	UsernameFile, PasswordFile string
	BearerTokenFile            string

	// For https: certificates to trust besides the system's, and a certificate to
	// show, with its key. They are read again at each fetch.
	CAFile, CertFile, KeyFile string
	ProxyURL                  string // for http and https; "": as the environment says

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
	if err := c.Ref.Validate(); err != nil {
		return err
	}
	if c.UsernameFile != "" && c.PasswordFile == "" {
		return fleet.WithHint(fleet.Invalid("a file with the username is given, but none with the password"), "give both")
	}
	if c.PasswordFile != "" && c.BearerTokenFile != "" {
		return fleet.WithHint(fleet.Invalid("both a password and a bearer token are given"), "give one of them: most Git servers take a token as the password")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return fleet.WithHint(fleet.Invalid("of the client certificate and its key only one file is given"), "give both")
	}
	return nil
}

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
