package main

import (
	"github.com/spf13/pflag"

	"github.com/capstan-gitops/capstan/hub"
)

// addPeopleFlags says who is let in, and as whom.
func addPeopleFlags(f *pflag.FlagSet, cfg *hub.Config) {
	f.StringVar(&cfg.TokenFile, "token-file", "", "API tokens, one a line: NAME ROLES sha256:HASH; roles are viewer, operator, approver, admin and hook (default DATA-DIR/tokens, with an administrator's)")
	f.StringVar(&cfg.AccessFile, "access-file", "", "YAML file that gives roles to users, groups and tokens, limited to clusters and apps")
	f.StringVar(&cfg.OIDC.Issuer, "oidc-issuer", "", "identity provider that people sign in with (OpenID Connect)")
	f.StringVar(&cfg.OIDC.ClientID, "oidc-client-id", "", "the hub's client there; its redirect URL is URL/login/callback")
	f.StringVar(&cfg.OIDC.ClientSecretFile, "oidc-client-secret-file", "", "file with that client's secret (default a public client)")
	f.StringVar(&cfg.OIDC.CLIClientID, "oidc-cli-client-id", "", "public client of the CLI, with loopback redirects (default the hub's)")
	f.StringVar(&cfg.OIDC.UsernameClaim, "oidc-username-claim", "", "claim that names people (default email)")
	f.StringVar(&cfg.OIDC.GroupsClaim, "oidc-groups-claim", "", "claim that lists their groups (default groups)")
	f.StringSliceVar(&cfg.OIDC.Scopes, "oidc-scope", nil, "scopes to ask for (default openid,profile,email,offline_access)")
	f.StringSliceVar(&cfg.TrustedProxies, "trusted-proxy", nil, "addresses (CIDR) of proxies whose X-Forwarded-For is believed")
}
