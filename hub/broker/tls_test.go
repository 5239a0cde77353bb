package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/hub/broker"
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
