package source_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
)

// newIdentity makes a certificate that signs itself, and its key, as PEM.
func newIdentity(t *testing.T) (cert, key string, parsed *x509.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agent"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), parsed
}

func TestAClientCertificateIsShownAndMayRotate(t *testing.T) {
	firstCert, firstKey, _ := newIdentity(t)
	secondCert, secondKey, second := newIdentity(t)
	pool := x509.NewCertPool()
	pool.AddCert(second)
	s := newGitServerOn(t, func(h http.Handler) *httptest.Server {
		server := httptest.NewUnstartedServer(h)
		server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		return server
	})
	s.write("f", "1")
	s.push()
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})))
	writeFile(t, cert, firstCert)
	writeFile(t, key, firstKey)
	_, err := s.open(func(c *source.Config) { c.CAFile = ca }).Fetch(t.Context())
	wantError(t, err, "certificate", "client certificate")
	r := s.open(func(c *source.Config) { c.CAFile, c.CertFile, c.KeyFile = ca, cert, key })
	_, err = r.Fetch(t.Context())
	wantError(t, err, "certificate", "client certificate") // of an authority the server does not know: not even shown
	writeFile(t, cert, secondCert)
	_, err = r.Fetch(t.Context())
	wantError(t, err, "are not a certificate and its key", "PEM")
	writeFile(t, key, secondKey)
	fetch(t, r)
}

// newProxy is an HTTP proxy; what it is asked for it gets itself.
func newProxy(t *testing.T, asked *atomic.Int64) *httptest.Server {
	t.Helper()
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		out := r.Clone(r.Context())
		out.RequestURI = ""
		answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	t.Cleanup(p.Close)
	return p
}

func TestTheProxyIsUsed(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	var asked atomic.Int64
	p := newProxy(t, &asked)
	fetch(t, s.open(func(c *source.Config) { c.ProxyURL = p.URL }))
	if asked.Load() == 0 {
		t.Error("the proxy was not asked")
	}
	p.Close()
	_, err := s.open(func(c *source.Config) { c.ProxyURL = p.URL }).Fetch(t.Context())
	wantError(t, err, "can't be reached", "proxy")
}
