package main

import (
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/fleet"
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

// keyFlags say which keys sign for agents.
type keyFlags struct{ dataDir, shared string }

func (k *keyFlags) addFlags(f *pflag.FlagSet) {
	f.StringVar(&k.dataDir, "data-dir", "", "the hub's data directory")
	f.StringVar(&k.shared, "nats-keys", "", "directory of the keys of hubs that share NATS servers")
}

// dir is where the keys are.
func (k *keyFlags) dir() (string, error) {
	if k.shared != "" {
		return k.shared, nil
	}
	if k.dataDir == "" {
		return "", fleet.WithHint(fleet.Invalid("no data directory is named"), "name one with --data-dir, or --nats-keys")
	}
	return filepath.Join(k.dataDir, "keys"), nil
}
