package source

import (
	"log/slog"
	"math"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const defaultTimeout = 2 * time.Minute

// Config says where a repository is and how to read it.
type Config struct {
	URL string // https, http, ssh, file (a repository on a volume) or bundle (a directory); without credentials
	Ref Ref    // what is followed

	// Mirrors are other places with the same repository, asked in this order
	// when the URL fails. Credentials for HTTP go to the URL's own host only.
	Mirrors []string

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

	// For ssh: the private key, what opens it if anything has to, and the keys of
	// hosts to trust. They are read again at each fetch.
	IdentityFile, IdentityPassphraseFile, KnownHostsFile string

	Verify Verify // whose signatures are asked for

	// HoldRewinds keeps a branch from being followed to a commit that does not
	// come after the one before, until that is accepted.
	HoldRewinds bool

	Limits  Limits        // zero fields: defaults
	Timeout time.Duration // of one fetch; 0: two minutes
	Log     *slog.Logger  // nil: nothing is logged

	small int // how many files are all held where the server filters

	// mayLead tells whether a server may lead to another one; nil: anywhere.
	mayLead func(to *url.URL) bool
	// readFile reads the files with credentials and what is trusted; nil: from disk.
	readFile func(name string) ([]byte, error)
}

// read gives a file's content.
func (c *Config) read(name string) ([]byte, error) {
	if c.readFile != nil {
		return c.readFile(name)
	}
	return os.ReadFile(name)
}

func (c *Config) setDefaults() {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.small == 0 {
		c.small = smallRepository
	}
	if c.hasBundles() { // an incremental one builds on files: all are to be there when it comes
		c.small = math.MaxInt
	}
	c.Limits.setDefaults()
}

func (c *Config) hasBundles() bool {
	return slices.ContainsFunc(append([]string{c.URL}, c.Mirrors...), func(url string) bool {
		a, err := parseAddress(url)
		return err == nil && a.scheme == "bundle"
	})
}

func (c *Config) validate() error {
	if err := c.Ref.Validate(); err != nil {
		return err
	}
	if err := c.Verify.Validate(c.Ref); err != nil {
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
