package broker

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ServerConfig says how one of several NATS servers is to run.
type ServerConfig struct {
	Keys     string // directory of the keys; made if it is not there
	Name     string // of this server
	Listen   string // host:port for agents and hubs
	WSListen string // the same over WebSocket; empty: none
	StoreDir string // for JetStream and the accounts
	CertFile string // with KeyFile: TLS
	KeyFile  string

	ClusterListen string   // host:port for the other servers; empty: there is one server alone
	Routes        []string // host:port of the others

	MaxFileStore string // as nats-server writes sizes; empty: 8GB
}

// Validate checks what would come out of the file. The error is ErrInvalid.
func (c ServerConfig) Validate() error {
	if c.Keys == "" {
		return fleet.WithHint(fleet.Invalid("no directory for keys is named"), "name one with --keys")
	}
	if err := fleet.ValidateName("server", c.Name); err != nil {
		return err
	}
	listens := append([]string{c.Listen}, c.Routes...)
	for _, optional := range []string{c.WSListen, c.ClusterListen} {
		if optional != "" {
			listens = append(listens, optional)
		}
	}
	for _, l := range listens {
		if _, port, err := net.SplitHostPort(l); err != nil || port == "" {
			return fleet.WithHint(fleet.Invalid("address %q is not host:port", l), "write it as nats-1:6222")
		}
	}
	if len(c.Routes) > 0 && c.ClusterListen == "" {
		return fleet.Invalid("routes to other servers need an address to listen on for them")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return fleet.Invalid("TLS needs both the certificate and the key")
	}
	for _, s := range append(listens, c.StoreDir, c.CertFile, c.KeyFile, c.MaxFileStore) {
		if strings.ContainsAny(s, "\"\\\r\n\x00") {
			return fleet.Invalid("%q can't be written into a configuration", s)
		}
	}
	return nil
}

// Text makes the keys, if they are not there yet, and writes the configuration
// of one nats-server that holds to the same rules as the embedded one. It holds
// no secret: what it trusts is told by public keys.
func (c ServerConfig) Text() (string, error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	keys, err := openKeyring(c.Keys)
	if err != nil {
		return "", err
	}
	if _, err := openInstance(filepath.Join(c.Keys, "instance")); err != nil {
		return "", err
	}
	trust, err := newClaims(keys, nil, jwt.ConnectionTypeStandard, time.Now())
	if err != nil {
		return "", err
	}
	var b strings.Builder
	c.listeners(&b)
	if err := c.accounts(&b, keys, trust); err != nil {
		return "", err
	}
	c.storage(&b)
	return b.String(), nil
}

// liner writes lines.
func liner(b *strings.Builder) func(format string, a ...any) {
	return func(format string, a ...any) { fmt.Fprintf(b, format+"\n", a...) }
}

func (c ServerConfig) listeners(b *strings.Builder) {
	line := liner(b)
	line("# Of capstan-hub nats-config. The keys that sign for it are in a directory that the")
	line("# hubs are given with --nats-keys, and are no business of this server.")
	line("server_name: %q", c.Name)
	line("listen: %q", c.Listen)
	c.tls(line, "")
	if c.WSListen != "" {
		line("websocket {\n  listen: %q\n  same_origin: true", c.WSListen)
		if c.CertFile == "" {
			line("  no_tls: true")
		}
		c.tls(line, "  ")
		line("}")
	}
	line("max_payload: 1MB\nmax_control_line: 1024\nping_interval: \"2m\"\nping_max: 2")
	line("authorization { timeout: 20 }")
}

func (c ServerConfig) accounts(b *strings.Builder, keys *keyring, trust *claims) error {
	operator, err := trust.operator.Encode(keys.operator)
	if err != nil {
		return err
	}
	line := liner(b)
	line("\n# The accounts. HUB alone has JetStream; agents are in AGENTS, where the hubs answer them;")
	line("# people who ask them over NATS are in OPS.")
	line("operator: %q\nsystem_account: %q", operator, trust.sys.Subject)
	line("resolver {\n  type: full\n  dir: %q\n  allow_delete: false\n  interval: \"30s\"\n}", filepath.Join(c.StoreDir, "accounts"))
	line("resolver_preload {")
	for _, a := range trust.accounts() {
		// The server takes what it was told later, revocations for one, over this.
		token, err := a.Encode(keys.operator)
		if err != nil {
			return err
		}
		line("  %s: %q", a.Subject, token)
	}
	line("}")
	return nil
}

func (c ServerConfig) storage(b *strings.Builder) {
	line, size := liner(b), c.MaxFileStore
	if size == "" {
		size = "8GB"
	}
	line("\njetstream {\n  store_dir: %q\n  max_file_store: %s\n  max_memory_store: 64MB\n  sync_interval: \"1s\"\n}", c.StoreDir, size)
	if c.ClusterListen != "" {
		line("\ncluster {\n  name: \"capstan\"\n  listen: %q\n  no_advertise: true", c.ClusterListen)
		line("  routes: [")
		for _, r := range c.Routes {
			line("    \"nats-route://%s\"", r)
		}
		line("  ]\n}")
	}
}

func (c ServerConfig) tls(line func(string, ...any), indent string) {
	if c.CertFile != "" {
		line(indent+"tls { cert_file: %q, key_file: %q, timeout: 20 }", c.CertFile, c.KeyFile)
	}
}
