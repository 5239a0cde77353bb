package main

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/capstan-gitops/capstan/pkg/signing"
)

// joinSource says which repository a cluster pulls, and how.
type joinSource struct {
	repo, path                               string
	branch, tag, semver, commit              string
	mirrors                                  []string
	poll                                     time.Duration
	usernameFile, passwordFile, tokenFile    string
	caFile, certFile, keyFile                string
	identityFile, passphraseFile, knownHosts string
	verifyOpenPGP, verifySigners, verifyMode string
}

func (f *joinSource) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.repo, "repo", "", "URL of the Git repository: https, http, ssh, or [user@]host:path (required)")
	flags.StringVar(&f.path, "path", "", "directory with the cluster's Apps (required)")
	flags.StringVar(&f.branch, "branch", "", "branch to follow (default main)")
	flags.StringVar(&f.tag, "tag", "", "tag to follow, instead of a branch")
	flags.StringVar(&f.semver, "semver", "", "range of versions to follow, instead: the highest tag within it")
	flags.StringVar(&f.commit, "commit", "", "commit to stay at, instead; all 40 digits")
	flags.StringArrayVar(&f.mirrors, "mirror", nil, "another URL of the same repository, for when the first fails (repeatable)")
	flags.DurationVar(&f.poll, "poll", time.Minute, "time between looks at the repository")
	flags.StringVar(&f.usernameFile, "git-username-file", "", "file with the user name for the repository")
	flags.StringVar(&f.passwordFile, "git-password-file", "", "file with the password or token for the repository")
	flags.StringVar(&f.tokenFile, "git-token-file", "", "file with a bearer token for the repository, instead of the two")
	flags.StringVar(&f.caFile, "git-ca-file", "", "certificates to trust for the repository besides the system's (PEM)")
	flags.StringVar(&f.certFile, "git-cert-file", "", "client certificate to show to the Git server (PEM)")
	flags.StringVar(&f.keyFile, "git-key-file", "", "its private key (PEM)")
	flags.StringVar(&f.identityFile, "identity-file", "", "private key for ssh")
	flags.StringVar(&f.passphraseFile, "identity-passphrase-file", "", "file with the passphrase that opens it")
	flags.StringVar(&f.knownHosts, "known-hosts", "", "host keys to trust for ssh, as ssh-keyscan writes them")
	flags.StringVar(&f.verifyOpenPGP, "verify-openpgp-keys", "", "follow only what is signed by one of these OpenPGP keys (armored)")
	flags.StringVar(&f.verifySigners, "verify-allowed-signers", "", "follow only what is signed by one of these SSH keys (allowed_signers format)")
	flags.StringVar(&f.verifyMode, "verify-mode", "", "what is signed: commit, or the tag that is followed (default commit)")
}

// scpLike is how people write ssh addresses.
var scpLike = regexp.MustCompile(`^(?:[^@/:\s]+@)?[^@/:\s\[\]]+:[^\s]+$`)

// scheme tells how a repository is reached. A URL that may hold a credential is
// not repeated.
func scheme(flag, repo string) (string, error) {
	const like = "give it like https://git.example.com/fleet.git or ssh://git@git.example.com/fleet.git"
	if !strings.Contains(repo, "://") && scpLike.MatchString(repo) {
		return "ssh", nil
	}
	u, err := url.Parse(repo)
	if err != nil {
		return "", usage(like, "%s is not a URL", flag)
	}
	if _, password := u.User.Password(); password || u.User != nil && u.Scheme != "ssh" {
		return "", usage("put them into files: --git-username-file and --git-password-file", "%s has credentials in it", flag)
	}
	switch u.Scheme {
	case "https", "http", "ssh":
		if u.Host != "" {
			return u.Scheme, nil
		}
	case "file", "bundle":
		return "", usage("mount the volume into the agent's pods, and add the URL to source in the ConfigMap capstan-agent; docs/agent.md shows how",
			"%s is on a volume, which these manifests do not mount", flag)
	}
	return "", usage(like, "%s is not an https, http or ssh URL", flag)
}

// addSource fills in how the repository is read: what is secret goes into the
// Secret, what is to be trusted into the ConfigMap.
func (f *joinSource) addSource(in *install) error {
	if f.repo == "" || f.path == "" {
		return usage("say what the cluster pulls: --repo URL --path DIRECTORY", "--repo and --path are needed")
	}
	if clean := path.Clean(f.path); path.IsAbs(f.path) || clean == ".." || strings.HasPrefix(clean, "../") {
		return usage("name a directory inside of the repository", "--path %q leaves the repository", f.path)
	}
	if f.poll < time.Second {
		return usage("give a time like 60s", "--poll must be at least 1s")
	}
	ssh, err := f.placesOverSSH()
	if err != nil {
		return err
	}
	in.config.Source = sourceConfig{URL: f.repo, Mirrors: f.mirrors, Path: path.Clean(f.path), PollInterval: shortDuration(f.poll)}
	if err := f.addRef(&in.config.Source); err != nil {
		return err
	}
	if err := f.pairs(ssh); err != nil {
		return err
	}
	if err := f.addFiles(in); err != nil {
		return err
	}
	return f.addVerify(in)
}

// placesOverSSH tells whether the repository or a mirror is reached so.
func (f *joinSource) placesOverSSH() (bool, error) {
	over, err := scheme("--repo", f.repo)
	if err != nil {
		return false, err
	}
	ssh := over == "ssh"
	for _, m := range f.mirrors {
		if over, err = scheme("--mirror", m); err != nil {
			return false, err
		}
		ssh = ssh || over == "ssh"
	}
	return ssh, nil
}

func (f *joinSource) addRef(s *sourceConfig) error {
	set := 0
	for _, v := range []string{f.branch, f.tag, f.semver, f.commit} {
		if v != "" {
			set++
		}
	}
	switch {
	case set > 1:
		return usage("give one of them", "more than one of --branch, --tag, --semver and --commit is given")
	case f.commit != "" && !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(f.commit):
		return usage("git rev-parse tells it", "--commit is not all 40 digits of a commit, in lower case")
	case set == 0 || f.branch != "":
		if s.Branch = f.branch; s.Branch == "" {
			s.Branch = "main"
		}
		return nil
	}
	s.Ref = &refConfig{Tag: f.tag, Semver: f.semver, Commit: f.commit}
	return nil
}

// pairs checks what belongs together.
func (f *joinSource) pairs(ssh bool) error {
	switch {
	case (f.usernameFile == "") != (f.passwordFile == ""):
		return usage("give both, or none", "--git-username-file and --git-password-file belong together")
	case f.tokenFile != "" && f.passwordFile != "":
		return usage("give one of them: most Git servers take a token as the password", "--git-token-file and --git-password-file are both given")
	case (f.certFile == "") != (f.keyFile == ""):
		return usage("give both, or none", "--git-cert-file and --git-key-file belong together")
	case ssh && (f.identityFile == "" || f.knownHosts == ""):
		return usage("ssh-keyscan writes known hosts; compare them with what the server's owner publishes", "over ssh --identity-file and --known-hosts are needed")
	case !ssh && (f.identityFile != "" || f.knownHosts != ""):
		return usage("give a URL like ssh://git@git.example.com/fleet.git, or leave them out", "--identity-file and --known-hosts are for ssh, and nothing is reached so")
	case f.passphraseFile != "" && f.identityFile == "":
		return usage("give --identity-file too", "--identity-passphrase-file says nothing without a key")
	}
	return nil
}

// addFiles reads what the agent is to find beside its configuration.
func (f *joinSource) addFiles(in *install) error {
	s := &in.config.Source
	for _, each := range []struct {
		file, key string
		open      bool    // to everybody: it goes into the ConfigMap
		has       string  // what must be in it; "": one line, trimmed
		into      *string // where agent.yaml names it
	}{
		{file: f.usernameFile, key: "username", into: &s.UsernameFile},
		{file: f.passwordFile, key: "password", into: &s.PasswordFile},
		{file: f.tokenFile, key: "bearerToken", into: &s.TokenFile},
		{file: f.certFile, key: "tls.crt", has: "-----BEGIN CERTIFICATE-----", into: &s.CertFile},
		{file: f.keyFile, key: "tls.key", has: "PRIVATE KEY-----", into: &s.KeyFile},
		{file: f.identityFile, key: "identity", has: "PRIVATE KEY-----", into: &s.IdentityFile},
		{file: f.passphraseFile, key: "identity-passphrase", into: &s.IdentityPassphraseFile},
		{file: f.caFile, key: "git-ca.crt", open: true, has: "-----BEGIN CERTIFICATE-----", into: &s.CAFile},
		{file: f.knownHosts, key: "known_hosts", open: true, has: " ", into: &s.KnownHostsFile},
	} {
		if each.file == "" {
			continue
		}
		text, err := readText(each.file, each.has)
		if err != nil {
			return err
		}
		data, dir := in.secrets, "/etc/capstan/git/"
		if each.open {
			if strings.Contains(text, "PRIVATE KEY-----") {
				return usage("a ConfigMap can be read by many: keep the key out of it", "%s holds a private key", each.file)
			}
			data, dir = in.trusted, configDir+"/"
		}
		data[each.key], *each.into = text, dir+each.key
	}
	return nil
}

func (f *joinSource) addVerify(in *install) error {
	if f.verifyOpenPGP == "" && f.verifySigners == "" {
		if f.verifyMode != "" {
			return usage("add --verify-openpgp-keys or --verify-allowed-signers", "--verify-mode says nothing without keys")
		}
		return nil
	}
	v := &verifyConfig{Mode: f.verifyMode}
	switch {
	case f.verifyMode != "" && f.verifyMode != "commit" && f.verifyMode != "tag":
		return usage("it is commit or tag", "--verify-mode %q is not known", f.verifyMode)
	case f.verifyMode == "tag" && f.tag == "" && f.semver == "":
		return usage("add --tag or --semver, or verify commits", "--verify-mode tag, and no tag is followed")
	}
	if f.verifyOpenPGP != "" {
		const key = "git-openpgp-keys.asc"
		text, err := readText(f.verifyOpenPGP, "-----BEGIN PGP PUBLIC KEY BLOCK-----")
		if err != nil {
			return err
		}
		if strings.Contains(text, "PRIVATE KEY BLOCK-----") {
			return usage("export it with gpg --export --armor", "%s holds a private key", f.verifyOpenPGP)
		}
		in.trusted[key], v.OpenPGPKeysFile = text, configDir+"/"+key
	}
	if f.verifySigners != "" {
		const key = "git-allowed_signers"
		text, err := readText(f.verifySigners, " ")
		if err != nil {
			return err
		}
		if _, err := signing.ParseAllowedSigners(f.verifySigners, []byte(text)); err != nil {
			return err
		}
		in.trusted[key], v.AllowedSignersFile = text, configDir+"/"+key
	}
	in.config.Source.Verify = v
	return nil
}

// readText reads a file that has something in it; without that, one line.
func readText(file, has string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text := string(data)
	if has == "" {
		text = strings.TrimSpace(text)
	}
	switch {
	case strings.TrimSpace(text) == "":
		return "", fmt.Errorf("%s is empty", file)
	case !strings.Contains(text, has):
		return "", fmt.Errorf("%s holds no %s", file, strings.Trim(has, "- "))
	}
	return text, nil
}
