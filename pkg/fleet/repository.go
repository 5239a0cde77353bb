package fleet

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// scpForm is git@host:path, as ssh takes it: no slash comes before the colon.
var scpForm = regexp.MustCompile(`^(?:[^@/:]+@)?(\[[^\]/]+\]|[^@/:]+):(.*)$`)

// otherNames are hosts under which a forge takes SSH beside its own name.
var otherNames = map[string]string{
	"ssh.github.com":          "github.com",
	"altssh.gitlab.com":       "gitlab.com",
	"altssh.bitbucket.org":    "bitbucket.org",
	"ssh.dev.azure.com":       azureHost,
	"vs-ssh.visualstudio.com": azureHost,
}

const azureHost = "dev.azure.com"

// RepositoryKey is what all ways of writing one repository's address have in
// common: host and path, without scheme, user, port, case and ".git". Addresses
// with the same key are taken for the same repository where a mistake costs
// one look at it more; nothing that guards anything may rest on it. The error
// is ErrInvalid, and does not repeat the address, which may hold a credential.
func RepositoryKey(address string) (string, error) {
	host, p, err := splitAddress(strings.TrimSpace(address))
	if err != nil {
		return "", err
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	p = strings.ToLower(path.Clean("/" + p))
	p = strings.Trim(strings.TrimSuffix(p, ".git"), "/")
	if p == "" || strings.ContainsFunc(host+p, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return "", Invalid("the repository's address names no repository")
	}
	if name, ok := otherNames[host]; ok {
		host = name
	}
	if org, ok := strings.CutSuffix(host, ".visualstudio.com"); ok && org != "" {
		host, p = azureHost, org+"/"+strings.TrimPrefix(p, "defaultcollection/")
	}
	if host == azureHost {
		return host + "/" + azurePath(p), nil
	}
	// Bitbucket Data Center has a repository under /scm over HTTP, and without over SSH.
	return host + "/" + strings.TrimPrefix(p, "scm/"), nil
}

// splitAddress takes a URL, git@host:path, or the path of a directory.
func splitAddress(address string) (host, p string, err error) {
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil {
			return "", "", Invalid("the repository's address is not a URL")
		}
		return u.Hostname(), u.Path, nil
	}
	if m := scpForm.FindStringSubmatch(address); m != nil {
		return strings.Trim(m[1], "[]"), m[2], nil
	}
	return "", address, nil
}

// azurePath is organisation/project/repository of what Azure DevOps writes as
// org/project/_git/repo, as org/_git/repo where the two have one name, and as
// v3/org/project/repo over SSH.
func azurePath(p string) string {
	parts := strings.Split(strings.TrimPrefix(p, "v3/"), "/")
	switch {
	case len(parts) == 4 && parts[2] == "_git":
		return path.Join(parts[0], parts[1], parts[3])
	case len(parts) == 3 && parts[1] == "_git":
		return path.Join(parts[0], parts[2], parts[2])
	}
	return strings.Join(parts, "/")
}
