package source

import (
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// address is where a place is, taken apart.
type address struct {
	scheme string // http, https, ssh, file, bundle
	user   string // of ssh
	host   string // of http, https and ssh; of ssh with its port
	path   string // of ssh, as the server is to read it; of file and bundle
}

// scpLike is how people write SSH addresses: [user@]host:path.
var scpLike = regexp.MustCompile(`^(?:([^@/:\s]+)@)?([^@/:\s\[\]]+):([^\s].*)$`)

const defaultUser = "git"

// parseAddress never repeats the URL where it may hold a credential.
func parseAddress(s string) (address, error) {
	const like = "write it like https://git.example.com/fleet.git or ssh://git@git.example.com/fleet.git"
	if s == "" {
		return address{}, fleet.WithHint(fleet.Invalid("no repository is given"), "give its URL, like https://git.example.com/fleet.git")
	}
	if m := scpLike.FindStringSubmatch(s); m != nil && !strings.Contains(s, "://") {
		return sshAddress(m[1], net.JoinHostPort(m[2], "22"), m[3])
	}
	u, err := url.Parse(s)
	if err != nil {
		// Not the parser's error: it quotes the URL.
		return address{}, fleet.WithHint(fleet.Invalid("the repository's URL can't be read"), like)
	}
	if _, password := u.User.Password(); password || u.User != nil && u.Scheme != "ssh" {
		return address{}, fleet.WithHint(fleet.Invalid("the repository's URL has credentials in it"),
			"take them out of the URL, and give the files that hold the username and the password")
	}
	switch u.Scheme {
	case "http", "https", "ssh":
	case "file", "bundle":
		return localAddress(u)
	default:
		return address{}, fleet.WithHint(fleet.Invalid("repositories are read from https, http, ssh, file and bundle URLs only"), like)
	}
	switch {
	case u.Hostname() == "":
		return address{}, fleet.WithHint(fleet.Invalid("the repository's URL names no host"), like)
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return address{}, fleet.WithHint(fleet.Invalid("the repository's URL has something after its path"), "end it before ? and #; a branch is set apart from the URL")
	case u.Scheme != "ssh":
		return address{scheme: u.Scheme, host: u.Host}, nil
	}
	port := u.Port()
	if port == "" {
		port = "22"
	}
	p := u.Path
	if strings.HasPrefix(p, "/~") { // a home, which the server knows
		p = p[1:]
	}
	return sshAddress(u.User.Username(), net.JoinHostPort(u.Hostname(), port), p)
}

// localAddress is of a directory on this machine.
func localAddress(u *url.URL) (address, error) {
	if u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return address{}, fleet.WithHint(fleet.Invalid("the repository's URL is not the path of a directory here"), "write it with three slashes, like file:///var/mirror/fleet.git")
	}
	return address{scheme: u.Scheme, path: path.Clean(u.Path)}, nil
}

func sshAddress(user, host, p string) (address, error) {
	if path.Clean("/"+p) == "/" || strings.ContainsFunc(user+host+p, unicode.IsControl) {
		return address{}, fleet.WithHint(fleet.Invalid("the repository's URL names no repository"), "write it like ssh://git@git.example.com/fleet.git")
	}
	if user == "" {
		user = defaultUser
	}
	return address{scheme: "ssh", user: user, host: host, path: p}, nil
}
