package source

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Entry is a repository that Apps may name, or all whose URLs begin alike, with
// what the spoke's own people decided about it.
type Entry struct {
	URL    string // of one repository, or a prefix that ends in "/" or "*"
	Config Config // how it is read; its URL, Ref, HoldRewinds, Limits and Timeout do not count
}

// policy says what Apps may name, and how that is read. Nothing in Git adds to it.
type policy struct {
	own     Config
	ownAt   location
	entries []entry
}

type entry struct {
	Entry
	at     location
	prefix bool
}

func newPolicy(own Config, entries []Entry) (*policy, error) {
	p := &policy{own: own}
	var err error
	if p.ownAt, err = locate(own.URL); err != nil {
		return nil, fleet.WithHint(fmt.Errorf("source.url: %w", err), fleet.Hint(err))
	}
	for i, e := range entries {
		one, err := newEntry(e)
		if err != nil {
			return nil, fleet.WithHint(fmt.Errorf("repositories[%d]: %w", i, err), fleet.Hint(err))
		}
		if !one.prefix && one.at == p.ownAt {
			return nil, fleet.WithHint(fleet.Invalid("repositories[%d].url: it is the agent's own repository", i), "say under source how it is read")
		}
		if j := slices.IndexFunc(p.entries, func(o entry) bool { return o.at == one.at && o.prefix == one.prefix }); j >= 0 {
			return nil, fleet.WithHint(fleet.Invalid("repositories[%d].url: it is the same as of repositories[%d]", i, j), "keep one of them")
		}
		p.entries = append(p.entries, one)
	}
	return p, nil
}

func newEntry(e Entry) (entry, error) {
	out := entry{Entry: e}
	var err error
	text, star := strings.CutSuffix(e.URL, "*")
	out.prefix = star || strings.HasSuffix(e.URL, "/")
	cfg := e.Config
	cfg.Ref = Ref{Semver: "*"} // any mode of verification can be had with it
	if err := cfg.validate(); err != nil {
		return out, err
	}
	if _, err := cfg.proxy(); err != nil {
		return out, err
	}
	for i, m := range e.Config.Mirrors {
		if _, err := parseAddress(m); err != nil {
			return out, fleet.WithHint(fmt.Errorf("mirrors[%d]: %w", i, err), fleet.Hint(err))
		}
	}
	if !out.prefix {
		if out.at, err = locate(e.URL); err != nil {
			err = fleet.WithHint(fmt.Errorf("url: %w", err), fleet.Hint(err))
		}
		return out, err
	}
	if len(e.Config.Mirrors) > 0 {
		return out, fleet.WithHint(fleet.Invalid("mirrors are of one repository, and the url is a prefix"), "give a mirrored repository an entry of its own")
	}
	if out.at, err = locatePrefix(text); err != nil {
		err = fleet.WithHint(fmt.Errorf("url: %w", err), fleet.Hint(err))
	}
	return out, err
}

const defaultBranch = "main"

// resolve says what a Source stands for, and how it is read. Different ways to
// name the agent's own repository become one.
func (p *policy) resolve(s unit.Source) (unit.Source, Config, error) {
	if s.RepoURL == "" {
		return p.ownAtRef(s)
	}
	at, err := locate(s.RepoURL)
	if err != nil {
		return s, Config{}, err
	}
	var cfg Config
	switch e := p.find(at); {
	case at == p.ownAt && s.Secret == (unit.SecretName{}):
		s.RepoURL = ""
		return p.ownAtRef(s)
	case at == p.ownAt:
		cfg = p.own
	case e != nil:
		cfg = e.Config
	case len(p.entries) > 0:
		return s, Config{}, fleet.WithHint(fleet.Forbidden("this cluster does not let Apps read %s", plain(s.RepoURL)),
			"its agent's configuration lists under repositories what they may read: add it there")
	case at.isLocal():
		return s, Config{}, fleet.WithHint(fleet.Forbidden("this cluster does not let Apps read from its own disks, as %s is", plain(s.RepoURL)),
			"list it in the agent's configuration under repositories")
	case p.own.Verify.on():
		return s, Config{}, fleet.WithHint(fleet.Forbidden("this cluster asks for signatures, and does not know whose of %s", plain(s.RepoURL)),
			"list it in the agent's configuration under repositories, with the keys whose signatures count, or without")
	}
	cfg.URL, cfg.Ref = s.RepoURL, Ref(s.Ref)
	if cfg.Ref.IsZero() && at == p.ownAt {
		cfg.Ref = p.own.Ref
	}
	if cfg.Ref.IsZero() {
		cfg.Ref.Branch = defaultBranch
	}
	if s.Ref = unit.Ref(cfg.Ref); len(p.entries) > 0 {
		cfg.mayLead = p.mayLead
	}
	cfg.HoldRewinds, cfg.Limits, cfg.Timeout = p.own.HoldRewinds, p.own.Limits, p.own.Timeout
	return s, cfg, nil
}

// mayLead tells whether a server may lead an App's repository to a URL: to
// another repository that Apps may name.
func (p *policy) mayLead(to *url.URL) bool {
	text := to.Scheme + "://" + to.Host + to.EscapedPath()
	for _, asked := range []string{"/info/refs", "/git-upload-pack"} {
		text = strings.TrimSuffix(text, asked)
	}
	at, err := locate(text)
	return err == nil && (at == p.ownAt || p.find(at) != nil)
}

// ownAtRef is of the agent's own repository, perhaps at another ref.
func (p *policy) ownAtRef(s unit.Source) (unit.Source, Config, error) {
	cfg := p.own
	if s.Ref == (unit.Ref{}) || Ref(s.Ref) == cfg.Ref {
		return unit.Source{}, cfg, nil
	}
	cfg.Ref = Ref(s.Ref)
	return unit.Source{Ref: s.Ref}, cfg, nil
}

// find is the entry that says most about a repository.
func (p *policy) find(at location) *entry {
	var best *entry
	for i := range p.entries {
		e := &p.entries[i]
		switch {
		case !e.prefix && e.at == at:
			return e
		case e.prefix && at.isBelow(e.at) && (best == nil || len(e.at.path) > len(best.at.path)):
			best = e
		}
	}
	return best
}

// location is where a repository is, in a form that tells whether two URLs mean
// the same: servers take them with and without ".git", and mostly in any case.
type location struct{ scheme, host, path string }

func (l location) isLocal() bool { return l.scheme == "file" || l.scheme == "bundle" }

func (l location) isBelow(prefix location) bool {
	return l.scheme == prefix.scheme && l.host == prefix.host && strings.HasPrefix(l.path, prefix.path)
}

func locate(text string) (location, error) {
	a, err := parseAddress(text)
	if err != nil {
		return location{}, err
	}
	l := location{scheme: a.scheme, host: plainHost(a), path: a.path}
	if l.path == "" { // of http and https
		u, err := url.Parse(text)
		if err != nil {
			return location{}, fleet.Invalid("the repository's URL can't be read") // without quoting it
		}
		l.path = u.Path
	}
	if l.isLocal() {
		return l, nil
	}
	if slices.ContainsFunc(strings.Split(l.path, "/"), func(s string) bool { return s == "." || s == ".." }) || strings.ContainsAny(l.path, "\\%") {
		return location{}, fleet.WithHint(fleet.Invalid("the repository's URL has ., .., %% or a backslash in its path"), "write the path that it leads to")
	}
	l.path = strings.ToLower(strings.TrimSuffix(path.Clean("/"+l.path), ".git"))
	return l, nil
}

// locatePrefix reads the part of a URL before a "*", or up to a "/".
func locatePrefix(text string) (location, error) {
	const like = "write it like https://git.example.com/team/ or ssh://git.example.com/*"
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "file" && scheme != "bundle" && !strings.Contains(rest, "/") {
		return location{}, fleet.WithHint(fleet.Invalid("the prefix does not name its whole host"), like)
	}
	l, err := locate(text + "x") // a repository below it
	if err != nil {
		return location{}, err
	}
	l.path = strings.TrimSuffix(l.path, "x")
	if l.isLocal() && !strings.HasSuffix(l.path, "/") {
		return location{}, fleet.WithHint(fleet.Invalid("the prefix is not a directory"), "end it with a slash")
	}
	return l, nil
}

// plainHost is the host in small letters, with its port only where it is not
// the scheme's own.
func plainHost(a address) string {
	host, port, err := net.SplitHostPort(a.host)
	if err != nil {
		host, port = strings.Trim(a.host, "[]"), ""
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if port == "" || port == map[string]string{"http": "80", "https": "443", "ssh": "22"}[a.scheme] {
		return host
	}
	return net.JoinHostPort(host, port)
}

// isNamedLike tells whether a push to a URL may be one to this repository.
func (c *Config) isNamedLike(repoURL string) bool {
	if repoURL == "" || strings.HasPrefix(c.URL, "bundle:") {
		return true
	}
	return slices.ContainsFunc(append([]string{c.URL}, c.Mirrors...), func(own string) bool { return nameIn(own) == nameIn(repoURL) })
}

// nameIn is what a repository is called: the last word of its URL.
func nameIn(repoURL string) string {
	text := strings.TrimSuffix(strings.TrimRight(strings.ToLower(repoURL), "/"), ".git")
	return text[strings.LastIndexAny(text, "/:\\")+1:]
}

// ownSecrets is how the names of the agent's own Secrets begin.
const ownSecrets = "capstan-"

// reserved refuses the agent's own Secrets: an App could have them sent anywhere.
func (p *policy) reserved(s unit.SecretName, namespace string) error {
	if s.Namespace == namespace && strings.HasPrefix(s.Name, ownSecrets) {
		return fleet.WithHint(fleet.Forbidden("Secret %s is the agent's own, and no App's to use", s),
			"leave secretRef out where the agent's own configuration says how the repository is read; otherwise make a Secret whose name does not begin with "+ownSecrets)
	}
	return nil
}

// guard refuses to send what the agent has for one host to another, under
// whatever name an App found it.
func (p *policy) guard(cfg Config, name unit.SecretName) error {
	given, err := cfg.credentials()
	if err != nil || given.none() {
		return err
	}
	to, err := locate(cfg.URL)
	if err != nil {
		return err
	}
	ours := []entry{{Entry: Entry{Config: p.own}, at: p.ownAt}}
	for _, e := range append(ours, p.entries...) {
		if !e.Config.hasCredentials() || e.at.host == to.host {
			continue
		}
		own, err := e.Config.credentials()
		if err != nil {
			return err // they can't be told apart
		}
		if own == given {
			return fleet.WithHint(fleet.Forbidden("Secret %s holds what this agent is known by at %s, and it is not sent to %s", name, e.at.host, to.host),
				"give the repository credentials of its own")
		}
	}
	return nil
}

// withSecret is how a repository is read with an App's Secret. What the spoke
// decided about trust stays: the Secret says who asks, and no more.
func (p *policy) withSecret(cfg Config, name unit.SecretName, s *secret) (Config, error) {
	if s.err != nil {
		return cfg, s.err
	}
	files := map[string][]byte{}
	file := func(key string) string {
		if len(s.data[key]) == 0 {
			return ""
		}
		shown := fmt.Sprintf("key %s of Secret %s", key, name)
		files[shown] = s.data[key]
		return shown
	}
	cfg.UsernameFile, cfg.PasswordFile, cfg.BearerTokenFile = "", "", ""
	if strings.HasPrefix(cfg.URL, "http") {
		cfg.UsernameFile, cfg.PasswordFile, cfg.BearerTokenFile = file("username"), file("password"), file("bearerToken")
		if cert, key := file("tls.crt"), file("tls.key"); cert != "" || key != "" {
			cfg.CertFile, cfg.KeyFile = cert, key
		}
		cfg.CAFile = cmp.Or(cfg.CAFile, file("ca.crt"))
	} else {
		if identity := file("identity"); identity != "" {
			cfg.IdentityFile, cfg.IdentityPassphraseFile = identity, file("password")
		}
		cfg.KnownHostsFile = cmp.Or(cfg.KnownHostsFile, file("known_hosts"))
	}
	if len(files) == 0 {
		return cfg, fleet.WithHint(fleet.Invalid("Secret %s holds nothing for this repository", name),
			"over http it has username and password, or bearerToken, or tls.crt and tls.key, or ca.crt; over ssh identity and known_hosts")
	}
	cfg.readFile = func(name string) ([]byte, error) {
		if content, ok := files[name]; ok {
			return content, nil
		}
		return os.ReadFile(name)
	}
	return cfg, p.guard(cfg, name)
}
