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
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// authorityLife is as long as a hub may live: agents that are away learn of no
	// other.
	authorityLife = 20 * 365 * 24 * time.Hour
	// serverLife is how long a server's certificate lives; it is made anew when a
	// third of that is left.
	serverLife = 30 * 24 * time.Hour
	// skew is how far clocks may differ.
	skew = time.Hour
)

// The files of the CA, in the data directory's tls.
const (
	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
	// caNextFile has both, of the CA that comes: see RotateCA.
	caNextFile = "next.pem"
)

// authority is the hub's own CA. Its key lies in the data directory and signs
// nothing but this server's certificates, whose keys are never written down.
type authority struct {
	dir   string
	names []string
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	ca     *signer
	next   *signer // what agents are told beside it, to take its place; nil: nothing
	looked time.Time
	stamp  string // of next's file
	server *tls.Certificate
}

// signer is a CA's certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

// openAuthority reads the CA below dir, or makes it at the first start.
func openAuthority(dir, instance string, cfg Config) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := keepPrivate(dir, 0o700); err != nil {
		return nil, err
	}
	a := &authority{dir: dir, names: cfg.names(), now: cfg.Now, log: cfg.Log}
	if err := promote(dir, a.now()); err != nil {
		return nil, err
	}
	var err error
	if hasSigner(dir) {
		a.ca, err = readSigner(dir, a.now())
		return a, err
	}
	if a.ca, err = newSigner(pkix.Name{CommonName: "capstan hub " + instance}, a.now()); err != nil {
		return nil, err
	}
	return a, a.ca.write(dir)
}

func hasSigner(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, caCertFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// readSigner reads the CA that counts.
func readSigner(dir string, now time.Time) (*signer, error) {
	certFile, keyFile := filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile)
	text, err := os.ReadFile(certFile)
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
	s, err := parseSigner(text, secret)
	if err != nil {
		return nil, damaged(certFile+" and "+caKeyFile, err)
	}
	if now.After(s.cert.NotAfter) {
		return nil, damaged(certFile, fmt.Errorf("it ended at %s", s.cert.NotAfter.Format(time.RFC3339)))
	}
	return s, nil
}

func parseSigner(text, secret []byte) (*signer, error) {
	pair, err := tls.X509KeyPair(text, secret)
	if err != nil {
		return nil, errors.New("they are no certificate and its key")
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || !ok || !cert.IsCA {
		return nil, errors.New("they are no CA of a hub")
	}
	return &signer{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))}, nil
}

func damaged(file string, err error) error {
	return fleet.WithHint(fmt.Errorf("the hub's CA: %s: %w", file, err),
		"restore the data directory; without its tls directory the hub makes a new CA, and every agent has to join anew")
}

// newSigner makes a CA that signs from a time on.
func newSigner(name pkix.Name, from time.Time) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certTemplate(name, from, authorityLife)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &signer{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}, nil
}

// from is when a CA begins to sign.
func (s *signer) from() time.Time { return s.cert.NotBefore.Add(skew) }

func (s *signer) keyPEM() ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(s.key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), err
}

// write makes it the CA that counts. The key first: a certificate that is there
// has been given to nobody before its key was safe.
func (s *signer) write(dir string) error {
	secret, err := s.keyPEM()
	if err != nil {
		return err
	}
	if err := WriteSecret(filepath.Join(dir, caKeyFile), secret); err != nil {
		return err
	}
	return WriteSecret(filepath.Join(dir, caCertFile), []byte(s.pem))
}

func certTemplate(subject pkix.Name, from time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: from.Add(-skew), NotAfter: from.Add(life)}, nil
}

// certificate gives the server's certificate, anew when a third of its life is
// left.
func (a *authority) certificate() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
	if a.server != nil && a.server.Leaf.NotAfter.Sub(a.now()) > serverLife/3 {
		return a.server, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certTemplate(pkix.Name{CommonName: "capstan-hub"}, a.now(), serverLife)
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
	if end := a.ca.cert.NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca.cert, &key.PublicKey, a.ca.key)
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

func (a *authority) trust() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
	if a.next != nil {
		return a.ca.pem + a.next.pem
	}
	return a.ca.pem
}
