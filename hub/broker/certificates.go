package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// TLSMode says whether agents connect over TLS.
type TLSMode string

// The modes. A certificate that is given is used in every mode but TLSOff.
const (
	// TLSAuto is TLS unless agents can come from this machine alone.
	TLSAuto TLSMode = "auto"
	// TLSOn is TLS on loopback too.
	TLSOn TLSMode = "on"
	// TLSOff is no TLS anywhere: something before the hub ends it, or nothing does.
	TLSOff TLSMode = "off"
)

// SystemCA in the place of a CA's file tells agents to trust what their own
// system trusts.
const SystemCA = "system"

// secure tells whether agents connect over TLS.
func (c Config) secure() bool {
	switch {
	case c.TLS == TLSOff:
		return false
	case c.TLS == TLSOn || c.CertFile != "":
		return true
	}
	return !loopback(c.Listen) || c.WSListen != "" && !loopback(c.WSListen)
}

// loopback tells whether only this machine reaches a host:port.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Validate checks what can be known before the start. The error is ErrInvalid.
func (c Config) Validate() error {
	if c.external() {
		return c.validateExternal()
	}
	switch c.TLS {
	case "", TLSAuto, TLSOn, TLSOff:
	default:
		return fleet.Invalid("TLS for NATS %q is not one of auto, on, off", c.TLS)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return fleet.Invalid("TLS for NATS needs both the certificate and the key")
	}
	if c.TLS == TLSOff && c.CertFile != "" {
		return fleet.WithHint(fleet.Invalid("a certificate for NATS is given, and TLS is off"), "leave --nats-tls at auto")
	}
	listens := []string{c.Listen}
	if c.WSListen != "" {
		listens = append(listens, c.WSListen)
	}
	for _, listen := range listens {
		host, _, err := splitListen(listen)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); len(c.Advertise) == 0 && (host == "" || ip != nil && ip.IsUnspecified()) {
			return fleet.WithHint(fleet.Invalid("agents can't dial %q", listen), "say how agents reach this hub with --nats-url")
		}
	}
	return c.validateAdvertise()
}

// validateAdvertise checks that what agents are told agrees with how the hub
// listens: a URL that promises less would let somebody in between take TLS away.
func (c Config) validateAdvertise() error {
	outside := false // TLS that something before the hub ends
	for _, raw := range c.Advertise {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.User != nil {
			return notAURL(raw)
		}
		if err := c.agrees(raw, u); err != nil {
			return err
		}
		outside = outside || u.Scheme == "wss" && !c.secure()
	}
	if c.CAFile != "" && !c.secure() && !outside {
		return fleet.WithHint(fleet.Invalid("a CA for agents makes no sense without TLS for NATS"), "turn it on with --nats-tls on, or leave --nats-ca out")
	}
	return nil
}

// agrees checks one URL.
func (c Config) agrees(raw string, u *url.URL) error {
	native := u.Scheme == "nats" || u.Scheme == "tls"
	const leavesOut = "NATS URL %q leaves TLS out, and agents connect over TLS"
	switch {
	case !native && u.Scheme != "ws" && u.Scheme != "wss", native && u.Path != "" && u.Path != "/":
		return notAURL(raw)
	case u.Scheme == "tls" && !c.secure():
		return fleet.WithHint(fleet.Invalid("NATS URL %q promises TLS, and there is none", raw), "turn it on with --nats-tls on, or write nats://")
	case u.Scheme == "nats" && c.secure():
		return fleet.WithHint(fleet.Invalid(leavesOut, raw), "write it as tls://"+u.Host)
	case u.Scheme == "ws" && c.secure():
		return fleet.WithHint(fleet.Invalid(leavesOut, raw), "write it as wss://"+u.Host)
	}
	return nil
}

func notAURL(raw string) error {
	return fleet.WithHint(fleet.Invalid("NATS URL %q is not valid", raw), "write it as tls://host:4222, wss://host, or nats://host:4222 where there is no TLS")
}

// identity is the server's certificate as agents see it.
type identity interface {
	// certificate is the one that counts now.
	certificate() (*tls.Certificate, error)
	// trust is what agents are told to trust, in PEM; empty: their system's.
	trust() string
}

// openIdentity finds the certificate; nil: there is no TLS here.
func openIdentity(cfg Config, instance string) (identity, error) {
	switch {
	case !cfg.secure():
		ca, err := caText(cfg.CAFile, "")
		return plain(ca), err
	case cfg.CertFile != "":
		return openFiles(cfg)
	}
	if cfg.CAFile != "" {
		return nil, fleet.WithHint(fleet.Invalid("a CA for agents is given without a certificate"), "give --nats-tls-cert and --nats-tls-key as well, or leave --nats-ca out")
	}
	return openAuthority(filepath.Join(cfg.Dir, "tls"), instance, cfg)
}

// plain is the identity of a hub that ends no TLS: all there is to it is what
// agents trust of whatever does.
type plain string

func (plain) certificate() (*tls.Certificate, error) { return nil, errors.New("there is no TLS here") }
func (p plain) trust() string                        { return string(p) }

// names are the hosts agents may dial.
func (c Config) names() []string {
	out := []string{"localhost", "127.0.0.1", "::1"}
	for _, raw := range c.Advertise {
		if u, err := url.Parse(raw); err == nil {
			out = append(out, u.Hostname())
		}
	}
	for _, listen := range []string{c.Listen, c.WSListen} {
		host, _, err := net.SplitHostPort(listen)
		if ip := net.ParseIP(host); err == nil && host != "" && (ip == nil || !ip.IsUnspecified()) {
			out = append(out, host)
		}
	}
	return out
}

// lookEvery is how often certificate files are looked at, at most.
const lookEvery = time.Second

// files is the identity somebody else takes care of: a certificate in files
// that are replaced before it ends.
type files struct {
	cfg Config

	mu     sync.Mutex
	looked time.Time
	stamp  string
	cert   *tls.Certificate
	ca     string
}

func openFiles(cfg Config) (*files, error) {
	f := &files{cfg: cfg}
	f.stamp = f.stamps()
	if err := f.load(); err != nil {
		return nil, err
	}
	if end := f.cert.Leaf.NotAfter; cfg.Now().After(end) {
		cfg.Log.Error("the certificate for agents has ended: they will not connect", "file", cfg.CertFile, "ended", end)
	}
	return f, nil
}

// load reads a whole new identity, or leaves the one there is.
func (f *files) load() error {
	cert, err := tls.LoadX509KeyPair(f.cfg.CertFile, f.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("TLS for NATS: %s and %s: %w", f.cfg.CertFile, f.cfg.KeyFile, err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return fmt.Errorf("TLS for NATS: %s: %w", f.cfg.CertFile, err)
		}
	}
	ca, err := caText(f.cfg.CAFile, f.cfg.CertFile)
	if err != nil {
		return err
	}
	f.cert, f.ca = &cert, ca
	return nil
}

// caText reads what agents are told to trust.
func caText(file, otherwise string) (string, error) {
	if file == "" {
		file = otherwise
	}
	if file == SystemCA || file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("CA for agents: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return "", fleet.Invalid("CA for agents: %s holds no PEM certificate", file)
	}
	return string(text), nil
}

// stamps changes when one of the files does.
func (f *files) stamps() string {
	var out strings.Builder
	for _, name := range []string{f.cfg.CertFile, f.cfg.KeyFile, f.cfg.CAFile} {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintf(&out, "%s %d %d\n", info.ModTime(), info.Size(), info.Mode())
		}
	}
	return out.String()
}

// look reads the files again where they changed. What can't be used is said
// once, and the certificate from before stays: half of a pair that is being
// replaced must not take the agents' side down.
func (f *files) look() {
	now := f.cfg.Now()
	if age := now.Sub(f.looked); age >= 0 && age < lookEvery {
		return
	}
	f.looked = now
	stamp := f.stamps()
	if stamp == f.stamp {
		return
	}
	f.stamp = stamp
	if err := f.load(); err != nil {
		f.cfg.Log.Warn("the new certificate for agents can't be used: the one from before stays", "error", err)
		return
	}
	f.cfg.Log.Info("read a new certificate for agents", "file", f.cfg.CertFile, "ends", f.cert.Leaf.NotAfter)
}

func (f *files) certificate() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	return f.cert, nil
}

func (f *files) trust() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	return f.ca
}

var (
	_ identity = (*files)(nil)
	_ identity = (*authority)(nil)
	_ identity = plain("")
)
