package cloudstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// AzureHost is where the imitated vault is, for clients that go through the
// proxy in their environment.
const AzureHost = "acme.vault.azure.net"

const azureToken = "eyJ.token-of-the-agent"

// Azure starts a Key Vault, a service that gives out managed identities, and a
// proxy by which the vault is reached under its name; and sets the environment
// for clients. Clients in this process do not see it.
func Azure(t testing.TB) *Service {
	t.Helper()
	s := start(t, answerAzure, refuseAzure)
	s.Close() // it is asked over TLS
	handler := s.Config.Handler
	s.Server = httptest.NewUnstartedServer(handler)
	cert, file := certificate(t)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	identity := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"access_token": azureToken, "expires_on": "4102444800", "resource": "https://vault.azure.net", "token_type": "Bearer"})
	}))
	t.Cleanup(identity.Close)
	proxy := httptest.NewServer(tunnel(t, s.Listener.Addr().String()))
	t.Cleanup(proxy.Close)
	for name, value := range map[string]string{
		"HTTPS_PROXY": proxy.URL, "SSL_CERT_FILE": file, "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential", "IDENTITY_ENDPOINT": identity.URL, "IDENTITY_HEADER": "header-of-the-agent",
	} {
		t.Setenv(name, value)
	}
	return s
}

// AzureWrapped is a data key encrypted for a key of the imitated vault.
func AzureWrapped(name string, dataKey []byte) []byte {
	return []byte(base64.RawURLEncoding.EncodeToString(seal(sealed{"/keys/" + name, nil, dataKey})))
}

func refuseAzure(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	kind := map[int]string{http.StatusForbidden: "Forbidden", http.StatusBadRequest: "BadParameter"}[code]
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": kind, "message": message}})
}

func answerAzure(s *Service, w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+azureToken {
		w.Header().Set("Www-Authenticate", `Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var q struct{ Value string }
	_ = json.NewDecoder(r.Body).Decode(&q)
	key := strings.TrimSuffix(r.URL.Path, "/decrypt")
	s.note("decrypt " + key)
	text, _ := base64.RawURLEncoding.DecodeString(q.Value)
	plain, ok := unseal(text, key[:strings.LastIndex(key, "/")], nil)
	if !ok {
		refuseAzure(w, http.StatusBadRequest, "")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"kid": "https://" + AzureHost + key, "value": base64.RawURLEncoding.EncodeToString(s.plainOf(plain))})
}

// certificate is one for the vault's name, and a file with it.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{AzureHost}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, file
}

// tunnel is a proxy that leads to one address, whatever is asked for.
func tunnel(t testing.TB, to string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != AzureHost+":443" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		there, err := net.Dial("tcp", to) //nolint:noctx // it ends with the connection it is made for
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			there.Close()
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, here); there.Close() }()
		_, _ = io.Copy(here, there)
		here.Close()
	}
}
