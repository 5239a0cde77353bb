package agent

import (
	"fmt"
	"path"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// SourceConfig says where the repository is and how to read it.
type SourceConfig struct {
	RepositoryConfig

	Branch string     `json:"branch,omitempty"` // short for ref.branch
	Ref    source.Ref `json:"ref,omitzero"`
	Path   string     `json:"path"` // the root path

	// PollInterval is the time between two looks at any repository.
	PollInterval metav1.Duration `json:"pollInterval,omitzero"`
	// PushSpread is the longest time within which, at random, is looked after a push;
	// nil: ten seconds.
	PushSpread *metav1.Duration `json:"pushSpread,omitempty"`
}

// RepositoryConfig says where a repository is, and how it is read.
type RepositoryConfig struct {
	URL          string   `json:"url"`
	Mirrors      []string `json:"mirrors,omitempty"`
	UsernameFile string   `json:"usernameFile,omitempty"`
	PasswordFile string   `json:"passwordFile,omitempty"`
	TokenFile    string   `json:"tokenFile,omitempty"` // a bearer token, instead of the two
	CAFile       string   `json:"caFile,omitempty"`
	CertFile     string   `json:"certFile,omitempty"` // a client certificate
	KeyFile      string   `json:"keyFile,omitempty"`
	ProxyURL     string   `json:"proxyURL,omitempty"`

	Verify source.Verify `json:"verify,omitzero"`

	// For ssh.
	IdentityFile           string `json:"identityFile,omitempty"` // a private key
	IdentityPassphraseFile string `json:"identityPassphraseFile,omitempty"`
	KnownHostsFile         string `json:"knownHostsFile,omitempty"`
}

// read is what the room that reads it is given.
func (c RepositoryConfig) read() source.Config {
	return source.Config{
		URL: c.URL, Mirrors: c.Mirrors, UsernameFile: c.UsernameFile, PasswordFile: c.PasswordFile, BearerTokenFile: c.TokenFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ProxyURL: c.ProxyURL,
		IdentityFile: c.IdentityFile, IdentityPassphraseFile: c.IdentityPassphraseFile, KnownHostsFile: c.KnownHostsFile,
		Verify: c.Verify,
	}
}

// sources is what may be followed, and how.
func (c *Config) sources(holdRewinds bool) source.PoolConfig {
	own := c.Source.read()
	own.Ref, own.HoldRewinds = c.Source.Ref, holdRewinds
	if c.Source.Branch != "" {
		own.Ref.Branch = c.Source.Branch
	}
	p := source.PoolConfig{Own: own, Namespace: c.Namespace, Poll: c.Source.PollInterval.Duration, PushSpread: c.Source.pushSpread()}
	for _, r := range c.Repositories {
		p.Repositories = append(p.Repositories, source.Entry{URL: r.URL, Config: r.read()})
	}
	return p
}

func (c *SourceConfig) pushSpread() time.Duration {
	if c.PushSpread == nil {
		return defaultPushSpread
	}
	return c.PushSpread.Duration
}

// defaultPushSpread is small: what a person pushed, that person waits for.
const defaultPushSpread = 10 * time.Second

func (c *SourceConfig) validate() error {
	if c.URL == "" {
		return fleet.WithHint(fleet.Invalid("source.url is not set"), "it is the repository this cluster pulls from")
	}
	if c.Branch != "" && !c.Ref.IsZero() {
		return fleet.WithHint(fleet.Invalid("source.branch and source.ref are both set"), "source.branch is short for source.ref.branch: set one of them")
	}
	if !c.Ref.IsZero() {
		if err := c.Ref.Validate(); err != nil {
			return fmt.Errorf("source.ref: %w", err)
		}
	}
	if err := c.Verify.Validate(c.Ref); err != nil {
		return fmt.Errorf("source.verify: %w", err)
	}
	if p := c.Path; p == "" || path.IsAbs(p) || path.Clean(p) != p || strings.HasPrefix(p, "..") {
		return fleet.WithHint(fleet.Invalid("source.path: %q is not a path inside the repository", p), `write it like "clusters/fleet"; "." is the repository's root`)
	}
	if c.PollInterval.Duration < time.Second {
		return fleet.Invalid("source.pollInterval: %s is shorter than a second", c.PollInterval.Duration)
	}
	if d := c.pushSpread(); d < 0 || d > time.Hour {
		return fleet.WithHint(fleet.Invalid("source.pushSpread: %s is not between 0s and 1h", d), `write it like "2s"`)
	}
	return nil
}
