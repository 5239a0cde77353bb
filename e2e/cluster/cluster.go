// Package cluster runs real Kubernetes control planes on this machine: etcd,
// kube-apiserver, controller-manager, scheduler and a fake kubelet, each a
// process of its own, so that each can be frozen or killed alone. Nothing of a
// cluster outlives the program that started it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/process"
)

// Options says what to start.
type Options struct {
	Binary   string // the testcluster program
	Dir      string // the cluster's own directory; a stale one is cleaned up, Close removes it
	Name     string // what kubeconfigs call the cluster
	Nodes    int    // fake nodes; 0: two
	AuditLog bool   // log every request's metadata: see AuditLog and Requests
}

const (
	readyWithin = 3 * time.Minute
	startTries  = 3 // somebody else may take a port between choosing and binding it
	marker      = "testcluster"
)

// Cluster is one running control plane.
type Cluster struct {
	opts    Options
	etcdURL string
	apiPort int

	mu    sync.Mutex
	parts map[Part]*process.Process
}

// Start starts a cluster and returns when pods can be created in it.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	opts.Dir = dir
	if opts.Nodes == 0 {
		opts.Nodes = 2
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for try := 1; ; try++ {
		c, err := start(ctx, opts)
		if err == nil {
			return c, nil
		}
		if try == startTries || !strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("start cluster %s: %w", opts.Name, err)
		}
	}
}

func start(ctx context.Context, opts Options) (_ *Cluster, err error) {
	if err := prepareDir(opts.Dir); err != nil {
		return nil, err
	}
	c := &Cluster{opts: opts, parts: make(map[Part]*process.Process)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.apiPort, err = FreePort(); err != nil {
		return nil, err
	}
	etcdPort, err := FreePort()
	if err != nil {
		return nil, err
	}
	c.etcdURL = fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	if err := writeCredentials(opts.Dir, opts.Name, c.serverURL()); err != nil {
		return nil, err
	}
	if opts.AuditLog {
		if err := os.WriteFile(c.file("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
			return nil, err
		}
	}
	for _, part := range Parts {
		if err := c.startPart(part); err != nil {
			return nil, err
		}
		if err := c.waitReady(ctx, part); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// prepareDir makes an empty directory. One that a cluster left behind is
// emptied; anything else that is not empty is somebody's and stays.
func prepareDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return fmt.Errorf("%s is not empty and not a cluster's directory", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, marker), []byte("made by a test cluster, removed with it\n"), 0o600)
}

// Name is what the cluster was called.
func (c *Cluster) Name() string { return c.opts.Name }

// Kubeconfig is the path of an administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.file("kubeconfig") }

// PIDs are the process ids of the parts that run.
func (c *Cluster) PIDs() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []int
	for _, p := range c.parts {
		all = append(all, p.PID())
	}
	return all
}

// Close kills every part and removes the directory. Nothing is asked to end
// well: the data goes too.
func (c *Cluster) Close() error {
	var errs []error
	for _, Part := range slices.Backward(Parts) {
		if err := c.Kill(Part); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.opts.Dir))...)
}

func (c *Cluster) file(name string) string { return filepath.Join(c.opts.Dir, name) }

func (c *Cluster) serverURL() string { return fmt.Sprintf("https://127.0.0.1:%d", c.apiPort) }

func adminClient(kubeconfig string) (*kubernetes.Clientset, error) {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(rest)
}
