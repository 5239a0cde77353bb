package hub_test

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/hub/broker/brokertest"
)

// Where hubs share NATS servers, nobody gets in either: the configuration that
// nats-config prints holds to the same rules as the embedded server.
func TestIsolationOnServersOfOnesOwn(t *testing.T) {
	dir := t.TempDir()
	keys, cert := filepath.Join(dir, "keys"), newCert(t, dir)
	s := printedServer(t, hub.NATSServer{
		Keys: keys, Name: "nats-1", Listen: "127.0.0.1:-1", WSListen: "127.0.0.1:-1", StoreDir: filepath.Join(dir, "nats"),
		CertFile: cert.file, KeyFile: cert.key,
	})
	urls := []string{"tls://" + s.Addr().String(), s.WebsocketURL()}
	f := newFortWith(t, dir, hub.Config{
		NATSKeys: keys, NATSURLs: urls[:1], NATSAgentURLs: urls, NATSCA: cert.file, NATSReplicas: 1, TokenFile: filepath.Join(dir, "tokens"),
	})
	for _, over := range []string{"tls", "wss"} {
		for _, a := range attacks() {
			t.Run(over+"/"+a.name, func(t *testing.T) { f.resist(t, over, a) })
		}
	}
}

// printedServer runs a NATS server with what nats-config prints.
func printedServer(t *testing.T, c hub.NATSServer) *server.Server {
	t.Helper()
	text, err := c.Text()
	if err != nil {
		t.Fatal(err)
	}
	return brokertest.Server(t, text)
}

type certificate struct{ file, key string }

// newCert writes a certificate for 127.0.0.1 that is its own CA.
func newCert(t *testing.T, dir string) certificate {
	t.Helper()
	s := httptest.NewTLSServer(nil) // has one
	pair := s.TLS.Certificates[0]
	s.Close()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{filepath.Join(dir, "nats.crt"), filepath.Join(dir, "nats.key")}
	for file, block := range map[string]*pem.Block{
		c.file: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, c.key: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
