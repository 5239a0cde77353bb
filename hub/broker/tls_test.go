package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// certificate writes a self-signed one for 127.0.0.1, and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestWithACertificateAgentsComeOverTLSAlone(t *testing.T) {
	cert, key := certificate(t)
	b, err := broker.Open(broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Serve(newMemo()); err != nil {
		t.Fatal(err)
	}
	urls, ca := b.Address()
	if len(urls) != 1 || !strings.HasPrefix(urls[0], "tls://") {
		t.Errorf("urls: %v", urls)
	}
	token, seed, err := b.JoinUser("j1", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	opts := []nats.Option{user(token, kp), nats.CustomInboxPrefix(wire.JoinInbox("j1")), nats.NoReconnect(), quiet}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("the CA that agents are told is none")
	}
	trusting := append([]nats.Option{nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})}, opts...)
	nc, err := nats.Connect(urls[0], trusting...)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if nc, err := nats.Connect(urls[0], opts...); err == nil {
		nc.Close()
		t.Error("an agent that was told no CA trusts the hub")
	}
}

// joiner makes what the holder of a join token connects with.
func joiner(t *testing.T, b *broker.Broker, join string) []nats.Option {
	t.Helper()
	token, seed, err := b.JoinUser(join, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	return []nats.Option{user(token, kp), nats.CustomInboxPrefix(wire.JoinInbox(join)), nats.NoReconnect(), quiet}
}

// trusting is TLS as an agent does it that was told a CA.
func trusting(t *testing.T, ca string, now func() time.Time) nats.Option {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("the CA that agents are told is none")
	}
	return nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, Time: now})
}

func open(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	b, err := broker.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.Serve(newMemo()); err != nil {
		t.Fatal(err)
	}
	return b
}

// leaf is the certificate that an agent is shown.
func leaf(t *testing.T, b *broker.Broker, now func() time.Time) *x509.Certificate {
	t.Helper()
	urls, ca := b.Address()
	nc, err := nats.Connect(urls[0], append(joiner(t, b, "j1"), trusting(t, ca, now))...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	state, err := nc.TLSConnectionState()
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0]
}

func TestTheHubMakesItsOwnCA(t *testing.T) {
	dir := t.TempDir()
	cfg := broker.Config{Dir: dir, Listen: "127.0.0.1:0", TLS: broker.TLSOn}
	b := open(t, cfg)
	urls, ca := b.Address()
	if len(urls) != 1 || !strings.HasPrefix(urls[0], "tls://") {
		t.Errorf("urls: %v", urls)
	}
	leaf(t, b, time.Now)
	if nc, err := nats.Connect(urls[0], joiner(t, b, "j1")...); err == nil {
		nc.Close()
		t.Error("an agent that was told no CA trusts the hub")
	}
	for _, name := range []string{"ca.crt", "ca.key"} {
		if info, err := os.Stat(filepath.Join(dir, "tls", name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	b.Close()
	if _, again := open(t, cfg).Address(); again != ca {
		t.Error("after a restart agents have to trust another CA")
	}
}

func TestTheServersCertificateIsRenewedBeforeItEnds(t *testing.T) {
	var passed atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	b := open(t, broker.Config{Listen: "127.0.0.1:0", TLS: broker.TLSOn, Now: now})
	first := leaf(t, b, now)
	if same := leaf(t, b, now); !same.Equal(first) {
		t.Error("a certificate is made at every connect")
	}
	passed.Store(int64(25 * 24 * time.Hour))
	if !now().Before(first.NotAfter) {
		t.Fatalf("the first ends at %s already", first.NotAfter)
	}
	if second := leaf(t, b, now); second.Equal(first) || !second.NotAfter.After(first.NotAfter) {
		t.Errorf("still the one that ends at %s", first.NotAfter)
	}
}

func TestADamagedCAIsSaid(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"no key":        func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) },
		"another's key": func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.key"), []byte("x"), 0o600) },
	} {
		dir := t.TempDir()
		cfg := broker.Config{Dir: dir, Listen: "127.0.0.1:0", TLS: broker.TLSOn}
		open(t, cfg).Close()
		if err := damage(filepath.Join(dir, "tls")); err != nil {
			t.Fatal(err)
		}
		b, err := broker.Open(cfg)
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "ca.key") || fleet.Hint(err) == "" {
			t.Errorf("%s: got %v, want an error that names the file, and a hint", name, err)
		}
	}
}

func TestACertificateInFilesIsReadAgain(t *testing.T) {
	cert, key := certificate(t)
	var passed atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(passed.Add(int64(2 * time.Second)))) }
	b := open(t, broker.Config{Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key, Now: now})
	first := leaf(t, b, time.Now)

	whole, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := leaf(t, b, time.Now); !got.Equal(first) {
		t.Error("a damaged certificate took the place of one that works")
	}
	if err := os.WriteFile(key, whole, 0o600); err != nil {
		t.Fatal(err)
	}

	nextCert, nextKey := certificate(t)
	for from, to := range map[string]string{nextCert: cert, nextKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if got := leaf(t, b, time.Now); got.Equal(first) {
		t.Error("the certificate from before is shown")
	}
}

func TestAgentsComeOverWebSocket(t *testing.T) {
	b := open(t, broker.Config{Listen: "127.0.0.1:0", WSListen: "127.0.0.1:0", TLS: broker.TLSOn})
	urls, ca := b.Address()
	if len(urls) != 2 || !strings.HasPrefix(urls[1], "wss://127.0.0.1:") {
		t.Fatalf("urls: %v", urls)
	}
	nc, err := nats.Connect(urls[1], append(joiner(t, b, "j1"), trusting(t, ca, nil))...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	kp, _ := newKey(t)
	if _, err := enrol(t, nc, "j1", kp); !errors.Is(err, fleet.ErrForbidden) { // the desk here knows no join: it answered
		t.Errorf("got %v, want ErrForbidden", err)
	}
	if nc, err := nats.Connect(urls[1], joiner(t, b, "j1")...); err == nil {
		nc.Close()
		t.Error("an agent that was told no CA trusts the hub")
	}
}

func TestNobodyIsLetInOverWebSocketBeforeTheHubAnswers(t *testing.T) {
	b, err := broker.Open(broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", WSListen: "127.0.0.1:0", TLS: broker.TLSOn, Advertise: []string{"tls://hub:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, ca := b.Address()
	if nc, err := nats.Connect(b.WebSocketURL(), append(joiner(t, b, "j1"), trusting(t, ca, nil))...); err == nil {
		nc.Close()
		t.Error("it lets agents in already")
	}
}

func TestWhatAgentsAreToldAgreesWithHowTheHubListens(t *testing.T) {
	cert, key := certificate(t)
	for name, c := range map[string]struct {
		cfg  broker.Config
		want string // in the error or its hint; empty: it is fine
	}{
		"TLS by itself":               {broker.Config{Listen: ":4222", Advertise: []string{"tls://hub:4222"}}, ""},
		"plain on loopback":           {broker.Config{Listen: "127.0.0.1:4222"}, ""},
		"plain on localhost":          {broker.Config{Listen: "localhost:4222", Advertise: []string{"nats://localhost:4222"}}, ""},
		"plain on a network":          {broker.Config{Listen: ":4222", Advertise: []string{"nats://hub:4222"}}, "tls://hub:4222"},
		"plain on a network, asked":   {broker.Config{Listen: ":4222", TLS: broker.TLSOff, Advertise: []string{"nats://hub:4222"}}, ""},
		"TLS that is off":             {broker.Config{Listen: ":4222", TLS: broker.TLSOff, Advertise: []string{"tls://hub:4222"}}, "--nats-tls on"},
		"a mode that is none":         {broker.Config{Listen: ":4222", TLS: "maybe", Advertise: []string{"tls://hub:4222"}}, "auto, on, off"},
		"a certificate, and TLS off":  {broker.Config{Listen: "127.0.0.1:0", TLS: broker.TLSOff, CertFile: cert, KeyFile: key}, "--nats-tls"},
		"WebSocket to all":            {broker.Config{Listen: "127.0.0.1:0", WSListen: ":443", Advertise: []string{"wss://hub"}}, ""},
		"WebSocket to nobody":         {broker.Config{Listen: "127.0.0.1:0", WSListen: ":443"}, "--nats-url"},
		"WebSocket without TLS":       {broker.Config{Listen: "127.0.0.1:0", WSListen: ":443", Advertise: []string{"ws://hub"}}, "wss://hub"},
		"TLS that an ingress ends":    {broker.Config{Listen: "127.0.0.1:0", WSListen: ":8081", TLS: broker.TLSOff, CAFile: broker.SystemCA, Advertise: []string{"wss://hub/agents"}}, ""},
		"a CA for nothing":            {broker.Config{Listen: "127.0.0.1:0", CAFile: cert}, "makes no sense"},
		"a path where there are none": {broker.Config{Listen: ":4222", Advertise: []string{"tls://hub:4222/x"}}, "not valid"},
	} {
		err := c.cfg.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error()+fleet.Hint(err), c.want)):
			t.Errorf("%s: got %v (%s), want %q", name, err, fleet.Hint(err), c.want)
		}
	}
}

func TestACertificateThatIsNoneIsSaid(t *testing.T) {
	cert, _ := certificate(t)
	if b, err := broker.Open(broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", CertFile: cert, KeyFile: cert}); err == nil {
		b.Close()
		t.Error("it was taken")
	}
	for _, listen := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"} {
		if b, err := broker.Open(broker.Config{Dir: t.TempDir(), Listen: listen}); err == nil {
			b.Close()
			t.Errorf("address %q was taken", listen)
		}
	}
}
