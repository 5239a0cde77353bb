package cluster

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/capstan-gitops/capstan/e2e/process"
)

// Part is one process of a control plane.
type Part string

// The parts, by the subcommand that runs each.
const (
	Etcd              Part = "etcd"
	APIServer         Part = "apiserver"
	ControllerManager Part = "controller-manager"
	Scheduler         Part = "scheduler"
	FakeKubelet       Part = "fakekubelet"
)

// Parts lists all parts in the order they start.
var Parts = []Part{Etcd, APIServer, ControllerManager, Scheduler, FakeKubelet}

// Stop freezes a part: its connections stay open and nothing answers.
func (c *Cluster) Stop(part Part) error { return c.with(part, (*process.Process).Stop) }

// Continue thaws a stopped part.
func (c *Cluster) Continue(part Part) error { return c.with(part, (*process.Process).Continue) }

// Kill ends a part at once. One that does not run is left alone.
func (c *Cluster) Kill(part Part) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.parts[part]
	if !ok {
		return nil
	}
	delete(c.parts, part)
	if err := p.Kill(); err != nil {
		return fmt.Errorf("kill %s of %s: %w", part, c.opts.Name, err)
	}
	return nil
}

// Restart kills a part if it runs, starts it anew on the same port and the
// same data, and returns when it is ready.
func (c *Cluster) Restart(ctx context.Context, part Part) error {
	if err := c.Kill(part); err != nil {
		return err
	}
	if err := c.startPart(part); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return c.waitReady(ctx, part)
}

func (c *Cluster) with(part Part, act func(*process.Process) error) error {
	p, ok := c.running(part)
	if !ok {
		return fmt.Errorf("%s of %s does not run", part, c.opts.Name)
	}
	if err := act(p); err != nil {
		return fmt.Errorf("%s of %s: %w", part, c.opts.Name, err)
	}
	return nil
}

func (c *Cluster) running(part Part) (*process.Process, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.parts[part]
	return p, ok
}

func (c *Cluster) startPart(part Part) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := process.Start(process.Spec{
		Path: c.opts.Binary,
		Args: append([]string{string(part)}, c.args(part)...),
		Dir:  c.opts.Dir,
		Env:  partEnv(),
		Log:  c.file(string(part) + ".log"),
	})
	if err != nil {
		return err
	}
	c.parts[part] = p
	return nil
}

// partEnv keeps the caller's Go and Kubernetes settings out of the cluster.
func partEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "TMPDIR=" + os.TempDir()}
}

func (c *Cluster) args(part Part) []string {
	switch part {
	case Etcd:
		return []string{"--data-dir=" + c.file("etcd"), "--listen-client-url=" + c.etcdURL}
	case APIServer:
		return c.apiServerArgs()
	case ControllerManager:
		return []string{
			"--kubeconfig=" + c.file("controller-manager.kubeconfig"), "--leader-elect=false", "--secure-port=0",
			"--use-service-account-credentials=true", "--service-account-private-key-file=" + c.file("sa.key"),
			"--root-ca-file=" + c.file("ca.crt"),
			"--cluster-signing-cert-file=" + c.file("ca.crt"), "--cluster-signing-key-file=" + c.file("ca.key"),
			"--kube-api-qps=200", "--kube-api-burst=400", "--namespace-sync-period=30s",
		}
	case Scheduler:
		return []string{"--kubeconfig=" + c.file("scheduler.kubeconfig"), "--leader-elect=false", "--secure-port=0"}
	case FakeKubelet:
		return []string{"--kubeconfig=" + c.file("fakekubelet.kubeconfig"), "--nodes=" + strconv.Itoa(c.opts.Nodes)}
	default:
		panic(fmt.Sprintf("no such part: %q", part))
	}
}

func (c *Cluster) apiServerArgs() []string {
	args := []string{
		"--etcd-servers=" + c.etcdURL,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.apiPort),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", // loopback may not be an endpoint
		"--tls-cert-file=" + c.file("server.crt"), "--tls-private-key-file=" + c.file("server.key"),
		"--cert-dir=" + c.opts.Dir, "--client-ca-file=" + c.file("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file("sa.pub"), "--service-account-signing-key-file=" + c.file("sa.key"),
		"--service-cluster-ip-range=10.0.0.0/16", "--allow-privileged=true",
	}
	if c.opts.AuditLog {
		args = append(args, "--audit-policy-file="+c.file("audit-policy.yaml"), "--audit-log-path="+c.AuditLog(),
			"--audit-log-mode=blocking") // what was answered is in the file
	}
	return args
}
