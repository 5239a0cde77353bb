package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"
)

const validFor = 365 * 24 * time.Hour

// writeCredentials makes a CA and everything the parts and an administrator
// need to trust each other.
func writeCredentials(dir, name, server string) error {
	ca, err := newAuthority(dir)
	if err != nil {
		return err
	}
	crt, key, err := ca.issue(pkix.Name{CommonName: "kube-apiserver"}, true)
	if err != nil {
		return err
	}
	if err := writeFiles(dir, map[string][]byte{"ca.crt": ca.pem, "ca.key": ca.keyPEM, "server.crt": crt, "server.key": key}); err != nil {
		return err
	}
	for file, who := range map[string]pkix.Name{
		"kubeconfig":                    {CommonName: "admin", Organization: []string{"system:masters"}},
		"controller-manager.kubeconfig": {CommonName: "system:kube-controller-manager"},
		"scheduler.kubeconfig":          {CommonName: "system:kube-scheduler"},
		"fakekubelet.kubeconfig":        {CommonName: "fakekubelet", Organization: []string{"system:masters"}},
	} {
		crt, key, err := ca.issue(who, false)
		if err != nil {
			return err
		}
		user := &api.AuthInfo{ClientCertificateData: crt, ClientKeyData: key}
		cluster := &api.Cluster{Server: server, CertificateAuthorityData: ca.pem}
		if err := writeKubeconfig(filepath.Join(dir, file), name, cluster, who.CommonName, user, ""); err != nil {
			return err
		}
	}
	return writeServiceAccountKeys(dir)
}

func writeServiceAccountKeys(dir string) error {
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	pub := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return writeFiles(dir, map[string][]byte{"sa.key": keyPEM, "sa.pub": pub})
}

func writeKubeconfig(path, name string, cluster *api.Cluster, userName string, user *api.AuthInfo, namespace string) error {
	cfg := api.NewConfig()
	cfg.Clusters[name] = cluster
	cfg.AuthInfos[userName] = user
	cfg.Contexts[name] = &api.Context{Cluster: name, AuthInfo: userName, Namespace: namespace}
	cfg.CurrentContext = name
	return clientcmd.WriteToFile(*cfg, path)
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

type authority struct {
	cert        *x509.Certificate
	key         *ecdsa.PrivateKey
	pem, keyPEM []byte
}

func newAuthority(dir string) (*authority, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("credentials in %s: %w", dir, err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testcluster-ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: certPEM(der), keyPEM: keyPEM}, nil
}

func (a *authority) issue(who pkix.Name, server bool) (crt, keyPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: who,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if server {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return certPEM(der), keyPEM, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
