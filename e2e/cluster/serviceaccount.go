package cluster

import (
	"context"
	"fmt"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"
)

const tokenSeconds int64 = 7 * 24 * 3600

// ServiceAccountKubeconfig writes a kubeconfig to path that is exactly the
// ServiceAccount namespace/name and nobody more.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name, path string) error {
	return ServiceAccountKubeconfig(ctx, c.Kubeconfig(), namespace, name, path)
}

// ServiceAccountKubeconfig does the same for any cluster that admin, an
// administrator's kubeconfig, leads to.
func ServiceAccountKubeconfig(ctx context.Context, admin, namespace, name, path string) error {
	fail := func(err error) error {
		return fmt.Errorf("kubeconfig for serviceaccount %s/%s: %w", namespace, name, err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", admin)
	if err != nil {
		return fail(err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fail(err)
	}
	seconds := tokenSeconds
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return fail(err)
	}
	cluster := &api.Cluster{
		Server: rest.Host, CertificateAuthorityData: rest.CAData, CertificateAuthority: rest.CAFile,
		InsecureSkipTLSVerify: rest.Insecure, TLSServerName: rest.ServerName,
	}
	user := &api.AuthInfo{Token: token.Status.Token}
	if err := writeKubeconfig(path, "spoke", cluster, name, user, namespace); err != nil {
		return fail(err)
	}
	return nil
}
