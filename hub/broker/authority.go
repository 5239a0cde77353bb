package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// authorityLife is as long as a hub may live: agents learn its certificate
	// once, with their join token.
	authorityLife = 20 * 365 * 24 * time.Hour
	// serverLife is how long a server's certificate lives; it is made anew when a
	// third of that is left.
	serverLife = 30 * 24 * time.Hour
	// skew is how far clocks may differ.
	skew = time.Hour
)

// authority is the hub's own CA. Its key lies in the data directory and signs
// nothing but this server's certificates, whose keys are never written down.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	pem   string
	names []string
	now   func() time.Time

	mu     sync.Mutex
	server *tls.Certificate
}

// openAuthority reads the CA below dir, or makes it at the first start.
func openAuthority(dir, instance string, names []string, now func() time.Time) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := keepPrivate(dir, 0o700); err != nil {
		return nil, err
	}
	a := &authority{names: names, now: now}
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	text, err := os.ReadFile(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		// The key first: a certificate that is there has been given to nobody
		// before its key was safe.
		if err := a.create(instance, certFile, keyFile); err != nil {
			return nil, err
		}
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	secret, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, damaged(keyFile, err)
	}
	if err := keepPrivate(keyFile, 0o600); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, secret)
	if err != nil {
		return nil, damaged(keyFile, errors.New("it is not the key of ca.crt"))
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if a.cert, err = x509.ParseCertificate(pair.Certificate[0]); err != nil || !ok || !a.cert.IsCA {
		return nil, damaged(certFile, errors.New("it is not a CA of a hub"))
	}
	if now().After(a.cert.NotAfter) {
		return nil, damaged(certFile, fmt.Errorf("it ended at %s", a.cert.NotAfter.Format(time.RFC3339)))
	}
	a.key, a.pem = key, string(text)
	return a, nil
}

func damaged(file string, err error) error {
	return fleet.WithHint(fmt.Errorf("the hub's CA: %s: %w", file, err),
		"restore the data directory; without its tls directory the hub makes a new CA, and every agent has to join anew")
}

func (a *authority) create(instance, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := a.template(pkix.Name{CommonName: "capstan hub " + instance}, authorityLife)
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := WriteSecret(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key, a.pem = key, string(text)
	return WriteSecret(certFile, text)
}

func (a *authority) template(subject pkix.Name, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := a.now()
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: now.Add(-skew), NotAfter: now.Add(life)}, nil
}

// certificate gives the server's certificate, anew when a third of its life is
// left.
func (a *authority) certificate() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil && a.server.Leaf.NotAfter.Sub(a.now()) > serverLife/3 {
		return a.server, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := a.template(pkix.Name{CommonName: "capstan-hub"}, serverLife)
	if err != nil {
		return nil, err
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range a.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if end := a.cert.NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a.server = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return a.server, nil
}

func (a *authority) trust() string { return a.pem }
