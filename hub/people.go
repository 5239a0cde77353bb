package hub

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var (
	_ api.People   = (*people.People)(nil)
	_ web.People   = (*people.People)(nil)
	_ people.Fleet = (*desk.Desk)(nil)
)

// openPeople says who is let in, and makes an administrator's token where
// nobody has named any.
func openPeople(cfg Config, service people.Bucket, d *desk.Desk) (who *people.People, adminToken string, err error) {
	file := cfg.TokenFile
	if file == "" {
		if adminToken, err = people.EnsureAdminToken(cfg.DataDir); err != nil {
			return nil, "", err
		}
		file = people.TokensFile(cfg.DataDir)
	}
	tokens, err := people.OpenTokens(file)
	if err != nil {
		return nil, "", err
	}
	who, err = people.Open(people.Config{Tokens: tokens, AccessFile: cfg.AccessFile, Service: service, Note: d.Note})
	return who, adminToken, err
}

// validateProxies checks the addresses whose word on where a request came from
// is taken. The error is ErrInvalid.
func validateProxies(proxies []string) error {
	for _, p := range proxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			return fleet.WithHint(fleet.Invalid("trusted proxy %q is not a range of addresses", p), "write it like 10.0.0.0/8 or 192.0.2.7/32")
		}
	}
	return nil
}

// originOf notes on each request where it came from: the address that dialled,
// or what a trusted proxy says, who appends to X-Forwarded-For.
func originOf(proxies []string, next http.Handler) http.Handler {
	trusted := func(address string) bool {
		a, err := netip.ParseAddr(address)
		for _, p := range proxies {
			if prefix, bad := netip.ParsePrefix(p); err == nil && bad == nil && prefix.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			origin = r.RemoteAddr
		}
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0 && trusted(origin); i-- {
			hop := strings.TrimSpace(hops[i])
			if _, err := netip.ParseAddr(hop); err != nil {
				break
			}
			origin = hop
		}
		next.ServeHTTP(w, r.WithContext(fleet.WithOrigin(r.Context(), origin)))
	})
}
