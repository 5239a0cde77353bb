package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/process"
)

// Servers are nats-server processes that hubs share, configured by what
// capstan-hub nats-config prints.
type Servers struct {
	Keys  string // directory of the hubs' keys
	nodes []*server
}

type server struct {
	client, monitor int
	spec            process.Spec
	proc            *process.Process
}

// NewServers writes the configuration of n servers below dir. Nothing runs yet.
func NewServers(ctx context.Context, natsServer, capstanHub, dir string, n int) (*Servers, error) {
	s := &Servers{Keys: filepath.Join(dir, "keys")}
	var routes []string
	free, err := ports(3 * n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", free[3*i]))
	}
	for i := range n {
		node := &server{client: free[3*i+1], monitor: free[3*i+2]}
		home := filepath.Join(dir, fmt.Sprintf("nats-%d", i+1))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		args := []string{
			"nats-config", "--keys", s.Keys, "--name", fmt.Sprintf("nats-%d", i+1), "--store-dir", home,
			"--listen", fmt.Sprintf("127.0.0.1:%d", node.client), "--cluster-listen", routes[i], "--route", strings.Join(routes, ","),
		}
		text, err := exec.CommandContext(ctx, capstanHub, args...).Output()
		if err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				err = fmt.Errorf("%w: %s", err, exit.Stderr)
			}
			return nil, fmt.Errorf("nats-config: %w", err)
		}
		file := filepath.Join(home, "nats.conf")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
		node.spec = process.Spec{
			Path: natsServer, Log: home + ".log",
			Args: []string{"-c", file, "--http_port", fmt.Sprint(node.monitor)},
		}
		s.nodes = append(s.nodes, node)
	}
	return s, nil
}

func ports(n int) (out []int, err error) {
	for len(out) < n {
		p, err := cluster.FreePort()
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Len is how many servers there are.
func (s *Servers) Len() int { return len(s.nodes) }

// Addresses are where the servers listen: host:port.
func (s *Servers) Addresses() (all []string) {
	for _, n := range s.nodes {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", n.client))
	}
	return all
}

// URLs is the same as one value of a flag.
func (s *Servers) URLs() string { return "nats://" + strings.Join(s.Addresses(), ",nats://") }

// Start starts one server, anew if it was killed. It does not wait: servers
// that start together wait for each other.
func (s *Servers) Start(i int) (err error) {
	s.nodes[i].proc, err = process.Start(s.nodes[i].spec)
	return err
}

// Ready waits until every server has all that it should have.
func (s *Servers) Ready(ctx context.Context) error {
	return Wait(ctx, startWithin, func() error {
		for i, n := range s.nodes {
			select {
			case <-n.proc.Done():
				return fmt.Errorf("%w: server %d ended: %w\n%s", errHopeless, i+1, n.proc.Err(), n.proc.LogTail())
			default:
			}
			if err := healthy(ctx, n.monitor); err != nil {
				return fmt.Errorf("server %d: %w", i+1, err)
			}
		}
		return nil
	})
}

func healthy(ctx context.Context, port int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/healthz", port), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz: %s", resp.Status)
	}
	return nil
}

// Kill ends one server at once, as a crash would.
func (s *Servers) Kill(i int) error { return s.nodes[i].proc.Kill() }

// Close ends all servers.
func (s *Servers) Close() error {
	var errs []error
	for _, n := range s.nodes {
		if n.proc != nil {
			errs = append(errs, n.proc.Kill())
		}
	}
	return errors.Join(errs...)
}
