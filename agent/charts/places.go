package charts

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// places says where charts may come from. Nothing in Git adds to it.
type places struct{ entries []listed }

type listed struct {
	Entry
	scheme, host, path string
}

func newPlaces(entries []Entry) (*places, error) {
	p := &places{}
	for i, e := range entries {
		u, err := parse(e.URL)
		if err != nil {
			return nil, fleet.WithHint(fmt.Errorf("charts[%d].url: %w", i, err), fleet.Hint(err))
		}
		if u.Scheme == "http" && !e.PlainHTTP {
			return nil, fleet.WithHint(fleet.Invalid("charts[%d].url: http is without TLS", i), "write https, or allow it with plainHTTP: true")
		}
		if (e.UsernameFile == "") != (e.PasswordFile == "") {
			return nil, fleet.WithHint(fleet.Invalid("charts[%d]: of usernameFile and passwordFile there is one", i), "set both, or neither")
		}
		p.entries = append(p.entries, listed{Entry: e, scheme: u.Scheme, host: u.Host, path: clean(u.Path)})
	}
	return p, nil
}

func clean(p string) string { return strings.TrimSuffix(path.Clean("/"+p), "/") }

// parse reads the URL of a place where charts are kept.
func parse(text string) (*url.URL, error) {
	const like = "write it like https://charts.example.com/stable or oci://registry.example.com/charts"
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fleet.WithHint(fleet.Invalid("the URL can't be read"), like) // without quoting it
	case u.User != nil:
		return nil, fleet.WithHint(fleet.Invalid("the URL holds credentials"), "put them into a Secret, and name it in spec.source.helm.chart.secretRef, or into the agent's configuration")
	case !slices.Contains([]string{"https", "http", "oci"}, u.Scheme) || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, fleet.WithHint(fleet.Invalid("the URL is not one of a chart repository or registry"), like)
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// place is where a chart is kept, and how it is reached.
type place struct {
	url   *url.URL
	host  string
	entry Entry // zero where none is about it

	username, password string
	ca                 []byte
}

// find says whether charts may come from a place, and how.
func (p *places) find(repository string) (*place, error) {
	u, err := parse(repository)
	if err != nil {
		return nil, err
	}
	out := &place{url: u, host: u.Host}
	if best := p.best(u); best != nil {
		out.entry = best.Entry
	} else if len(p.entries) > 0 {
		return nil, fleet.WithHint(fleet.Forbidden("this cluster does not let charts come from there"), "its agent's configuration lists under charts where they may come from: add it there")
	}
	if u.Scheme == "http" && !out.entry.PlainHTTP {
		return nil, fleet.WithHint(fleet.Forbidden("it is without TLS, and this cluster does not allow that"), "write https, or list it in the agent's configuration under charts, with plainHTTP: true")
	}
	return out, nil
}

// best is the entry that says most about a place.
func (p *places) best(u *url.URL) *listed {
	var best *listed
	at := clean(u.Path)
	for i := range p.entries {
		e := &p.entries[i]
		below := at == e.path || strings.HasPrefix(at, e.path+"/")
		if e.scheme == u.Scheme && e.host == u.Host && below && (best == nil || len(e.path) > len(best.path)) {
			best = e
		}
	}
	return best
}

// authorize takes an App's own credentials, or reads the spoke's. Files are read
// each time: they may rotate.
func (p *place) authorize(access unit.ChartAccess) error {
	p.username, p.password, p.ca = access.Username, access.Password, access.CA
	if p.entry.CAFile != "" {
		pem, err := os.ReadFile(p.entry.CAFile)
		if err != nil {
			return fleet.WithHint(fmt.Errorf("the agent's charts.caFile: %w", err), "mount the file, or mend the agent's configuration")
		}
		p.ca = append(append([]byte{}, pem...), access.CA...)
	}
	if p.username != "" || p.password != "" || p.entry.UsernameFile == "" {
		return nil
	}
	for file, value := range map[string]*string{p.entry.UsernameFile: &p.username, p.entry.PasswordFile: &p.password} {
		b, err := os.ReadFile(file)
		if err != nil {
			return fleet.WithHint(fmt.Errorf("the agent's credentials for charts: %w", err), "mount the file, or mend the agent's configuration")
		}
		*value = strings.TrimRight(string(b), "\r\n")
	}
	return nil
}

// key is what something is kept under: what one may read with its credentials,
// another may not without.
func (p *place) key(f unit.ChartFile) string {
	h := sha256.New()
	for _, part := range []string{fmt.Sprint(f.Kind), f.Repository, f.Name, f.Ref, f.Digest, p.username, p.password} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// port is a URL's host with its port written out.
func port(u *url.URL) string {
	return u.Hostname() + ":" + cmp.Or(u.Port(), map[string]string{"http": "80"}[u.Scheme], "443")
}
