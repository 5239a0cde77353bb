package hooks

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// what a call is about.
type what int

const (
	other what = iota // nothing that moves a branch or a tag
	ping              // somebody tries the webhook
	push              // a branch or a tag moved, came or went
)

// event is what is read of a call.
type event struct {
	what      what
	delivery  string
	addresses []string // of the repository, each with another key
	keys      []string // of addresses
	tail      string   // how the repository's key ends, where no address is given
	refs      []string // all that moved, as refs/heads/main; none: nobody knows which
}

// provider is how one forge calls.
type provider struct {
	signs bool // the proof is over the body; else it is the secret itself
	basic bool // the secret is USER:PASSWORD
	hint  string
	proof func(http.Header) (proof, bool)
	// read decodes the body. It sees what a stranger wrote.
	read func(h http.Header, body []byte) (event, error)
}

var providers = map[string]provider{
	"github": {
		signs: true, proof: signature("sha256=", "X-Hub-Signature-256"), read: readGitHub,
		hint: "set a secret at the webhook: GitHub then sends X-Hub-Signature-256",
	},
	"gitlab": {
		proof: token("X-Gitlab-Token"), read: readGitLab,
		hint: "set a secret token at the webhook: GitLab then sends X-Gitlab-Token",
	},
	"gitea": {
		signs: true, read: readGitea,
		proof: either(signature("", "X-Forgejo-Signature", "X-Gitea-Signature"), signature("sha256=", "X-Hub-Signature-256")),
		hint:  "set a secret at the webhook: Gitea and Forgejo then send X-Gitea-Signature",
	},
	"bitbucket": {
		signs: true, proof: signature("sha256=", "X-Hub-Signature", "X-Hub-Signature-256"), read: readBitbucket,
		hint: "set a secret at the webhook: Bitbucket then sends X-Hub-Signature",
	},
	"azure": {
		basic: true, proof: basic, read: readAzure,
		hint: "set a user name and a password for basic authentication at the service hook",
	},
}

// decode reads a call's body by its provider's form.
func decode(r *http.Request, body []byte, p provider) (event, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "application/json":
	case err == nil && kind == "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return event{}, fleet.Invalid("the body is not a form: %w", err)
		}
		body = []byte(form.Get("payload"))
	default:
		return event{}, fleet.WithHint(fleet.Invalid("the body must be of type application/json"), "set the webhook's content type")
	}
	ev, err := p.read(r.Header, body)
	if err != nil {
		return event{}, err
	}
	if len(ev.delivery) > 128 {
		return event{}, fleet.Invalid("the delivery's id has more than 128 bytes")
	}
	for _, a := range ev.addresses {
		if key, err := fleet.RepositoryKey(a); err == nil {
			ev.keys = append(ev.keys, key)
		}
	}
	if ev.what == push && len(ev.addresses) == 0 && ev.tail == "" {
		return event{}, fleet.Invalid("the call names no repository")
	}
	return ev, nil
}

// unmarshal reads a forge's JSON. They carry much more than is read here, and
// more with each release.
func unmarshal(body []byte, v any) error {
	if !json.Valid(body) {
		return fleet.Invalid("the body is not JSON")
	}
	if len(body) > 0 && bytes.TrimSpace(body)[0] != '{' {
		return fleet.Invalid("the body is not a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fleet.Invalid("the body can't be read: %w", err)
	}
	return nil
}

// addresses are the ones that are usable and lead to different keys, in order.
func addresses(all ...string) []string {
	var out, keys []string
	for _, a := range all {
		a = clean(a)
		key, err := fleet.RepositoryKey(a)
		if a == "" || err != nil || slices.Contains(keys, key) {
			continue
		}
		out, keys = append(out, a), append(keys, key)
	}
	return out
}

// clean takes out of an address what every agent must not hear. Empty: it is
// none that an agent could know.
func clean(address string) string {
	if len(address) > 2048 || strings.ContainsFunc(address, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return ""
	}
	if !strings.Contains(address, "://") {
		return address
	}
	u, err := url.Parse(address)
	if err != nil || !slices.Contains([]string{"https", "http", "ssh", "git", "file"}, u.Scheme) {
		return ""
	}
	u.RawQuery, u.Fragment = "", ""
	if u.Scheme == "ssh" && u.User != nil {
		u.User = url.User(u.User.Username())
	} else {
		u.User = nil
	}
	return u.String()
}

// maxRefs is how many references agents are told of: where more moved at once,
// they look whatever they follow.
const maxRefs = 16

// refs are what moved: all of it, or nothing where some of it can't be told.
func refs(all ...string) []string {
	if len(all) > maxRefs || slices.ContainsFunc(all, func(r string) bool {
		return r == "" || len(r) > 256 || strings.ContainsFunc(r, unicode.IsControl)
	}) {
		return nil
	}
	return all
}

func branch(name string) string {
	if name == "" || strings.HasPrefix(name, "refs/") {
		return name
	}
	return "refs/heads/" + name
}

func first(h http.Header, names ...string) string {
	for _, n := range names {
		if v := h.Get(n); v != "" {
			return v
		}
	}
	return ""
}
