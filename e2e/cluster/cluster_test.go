package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
)

// shared is the one control plane that most tests here use.
var (
	shared *cluster.Cluster
	binary string
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentDir); dir != "" {
		beParent(dir)
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if binary, err = build.Make(ctx, build.TestCluster, nil); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "capstan-cluster-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	shared, err = cluster.Start(ctx, cluster.Options{Binary: binary, Dir: filepath.Join(dir, "c"), Name: "shared", AuditLog: true})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	return m.Run(), nil
}

func client(t *testing.T, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	rest.Timeout = 2 * time.Second
	c, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits until check says nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

func pod(name, image string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}},
	}
}

func TestPodsBecomeReadyOnTheFakeNodes(t *testing.T) {
	c := client(t, shared.Kubeconfig())
	pods := c.CoreV1().Pods("default")
	for _, p := range []*corev1.Pod{pod("well", "example.com/web:1"), pod("ill", "example.com/broken:1")} {
		if _, err := pods.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		p, err := pods.Get(t.Context(), "well", metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("pod is %q", p.Status.Phase)
		}
		return err
	})
	eventually(t, func() error {
		p, err := pods.Get(t.Context(), "ill", metav1.GetOptions{})
		if err == nil && (len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil) {
			err = errors.New("broken image is not waited for")
		}
		return err
	})
	for _, name := range []string{"well", "ill"} {
		if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		left, err := pods.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(left.Items) > 0 {
			err = errors.New("deleted pods are still there")
		}
		return err
	})
}

// A control plane that was away for long gives its nodes up.
func TestANodeThatWasGivenUpComesBack(t *testing.T) {
	nodes := client(t, shared.Kubeconfig()).CoreV1().Nodes()
	ready := func(want corev1.ConditionStatus) func() error {
		return func() error {
			node, err := nodes.Get(t.Context(), "node-0", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range node.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == want {
					return nil
				}
			}
			return fmt.Errorf("the node is not Ready=%s: %v", want, node.Status.Conditions)
		}
	}
	eventually(t, ready(corev1.ConditionTrue))
	_, err := nodes.PatchStatus(t.Context(), "node-0", []byte(`{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, ready(corev1.ConditionTrue))
}

func TestAStoppedAPIServerAnswersNothingUntilContinued(t *testing.T) {
	c := client(t, shared.Kubeconfig())
	if err := shared.Stop(cluster.APIServer); err != nil {
		t.Fatal(err)
	}
	_, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err := shared.Continue(cluster.APIServer); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Error("a stopped API server answered")
	}
	eventually(t, func() error {
		_, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		return err
	})
}

func TestEtcdRestartsWithItsData(t *testing.T) {
	c := client(t, shared.Kubeconfig())
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: map[string]string{"a": "b"}}
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := shared.Restart(t.Context(), cluster.Etcd); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		_, err := c.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{})
		return err
	})
}

func TestAKilledPartDoesNotRun(t *testing.T) {
	if err := shared.Kill(cluster.Scheduler); err != nil {
		t.Fatal(err)
	}
	if err := shared.Stop(cluster.Scheduler); err == nil {
		t.Error("a killed part could be stopped")
	}
	if err := shared.Restart(t.Context(), cluster.Scheduler); err != nil {
		t.Fatal(err)
	}
	if err := shared.Stop(cluster.Scheduler); err != nil {
		t.Error(err)
	}
	if err := shared.Continue(cluster.Scheduler); err != nil {
		t.Error(err)
	}
}

func TestAServiceAccountKubeconfigIsThatAccountOnly(t *testing.T) {
	admin := client(t, shared.Kubeconfig())
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "nobody"}}
	if _, err := admin.CoreV1().ServiceAccounts("default").Create(t.Context(), sa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := shared.ServiceAccountKubeconfig(t.Context(), "default", "nobody", path); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(-time.Second)
	_, err := client(t, path).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("an account without rights listed secrets: %v", err)
	}
	requests, err := shared.Requests("system:serviceaccount:default:nobody", start)
	if err != nil {
		t.Fatal(err)
	}
	if len(requests) != 1 || requests[0].Verb != "list" || requests[0].Resource != "secrets" || requests[0].Code != 403 {
		t.Errorf("audit log has %+v, want one refused list of secrets", requests)
	}
	if err := shared.ServiceAccountKubeconfig(t.Context(), "default", "absent", path); !apierrors.IsNotFound(err) {
		t.Errorf("kubeconfig for an absent account: %v", err)
	}
}

func TestADirectoryOfSomebodyElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(mine, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(t.Context(), cluster.Options{Binary: binary, Dir: dir, Name: "x"})
	if err == nil {
		c.Close()
		t.Error("a cluster started in a directory that is not its own")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}
