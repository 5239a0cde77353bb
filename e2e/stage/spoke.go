package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/process"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// SpokeConfig describes one spoke, as its owner would.
type SpokeConfig struct {
	Name          string
	Labels        map[string]string // declared at the spoke
	Assignable    []string          // keys the hub may assign
	Root          string            // path its agent reads first; empty: the fleet's
	NeedsApproval bool              // of every app, by the stage's approver
	Decrypts      bool              // what is encrypted, for every app, with the keys in AgeKeys
	JoinFlags     []string          // more of capstan join's
	Collector     string            // URL of who takes the agent's traces; empty: there are none
	AuditLog      bool
	// Through is told the agent's kubeconfig before the agent starts, to put something
	// between it and its API server; nil: nothing is.
	Through    func(kubeconfig string) error
	Kubeconfig string // an administrator's, for a cluster that is there already; empty: one is started
}

// Spoke is a cluster with its agent.
type Spoke struct {
	Cluster *cluster.Cluster // nil when the cluster was there already

	cfg       SpokeConfig
	dir       string
	manifests string // as applied by Join
	spec      process.Spec
	listen    string // where the agent answers probes and shows metrics
	waiting   string // where the standby does
	agent     *process.Process
	standby   *process.Process // nil unless StartStandby was called
}

// Name is the cluster's.
func (p *Spoke) Name() string { return p.cfg.Name }

// Kubeconfig is an administrator's.
func (p *Spoke) Kubeconfig() string {
	if p.Cluster == nil {
		return p.cfg.Kubeconfig
	}
	return p.Cluster.Kubeconfig()
}

// AgentKubeconfig is the agent's: its ServiceAccount and nobody more. After Install.
func (p *Spoke) AgentKubeconfig() string { return filepath.Join(p.dir, "agent.kubeconfig") }

// AgeKeys is the directory of the agent's age keys, as a Secret is mounted. After Install.
func (p *Spoke) AgeKeys() string { return filepath.Join(p.dir, "etc", "age") }

// AddCluster starts a spoke's control plane, if it needs one. No agent runs there yet.
func (s *Stage) AddCluster(ctx context.Context, cfg SpokeConfig) error {
	p := &Spoke{cfg: cfg, dir: filepath.Join(s.cfg.Dir, cfg.Name)}
	if cfg.Kubeconfig == "" {
		c, err := cluster.Start(ctx, cluster.Options{
			Binary: s.cfg.Programs[build.TestCluster], Dir: filepath.Join(p.dir, "cluster"),
			Name: cfg.Name, AuditLog: cfg.AuditLog,
		})
		if err != nil {
			return err
		}
		p.Cluster = c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spokes[cfg.Name] = p
	return nil
}

// Join enrols a cluster: it installs what capstan join prints, and starts the agent.
func (s *Stage) Join(ctx context.Context, name string) error {
	if err := s.Install(ctx, name); err != nil {
		return err
	}
	p := s.Spoke(name)
	s.say("capstan-agent", p.spec.Args...)
	if err := p.StartAgent(); err != nil {
		return err
	}
	return waitFor(ctx, "the agent of "+name, p.agent, func(ctx context.Context) error { return s.enrolled(ctx, name) })
}

// Install asks the hub for a cluster's manifests, applies them, and prepares an
// agent with the rights that they give it. There is no container runtime here:
// the workload among the manifests is left out, and the agent will be a process
// beside the cluster that reads the same files.
func (s *Stage) Install(ctx context.Context, name string) error {
	p := s.Spoke(name)
	if p == nil {
		return fmt.Errorf("there is no cluster %s", name)
	}
	args := s.joinArgs(p.cfg)
	s.say("capstan", args...)
	out, err := s.output(ctx, "", filepath.Join(s.Bin(), string(build.CLI)), args...)
	if err != nil {
		return err
	}
	install, err := readInstall(out)
	if err != nil {
		return err
	}
	s.say("kubectl", "--kubeconfig", p.Kubeconfig(), "apply", "-f", "-")
	p.manifests = install.manifests
	if _, err := s.kubectl(ctx, p.Kubeconfig(), install.manifests, "apply", "-f", "-"); err != nil {
		return err
	}
	config, err := install.mount(filepath.Join(p.dir, "etc"))
	if err != nil {
		return err
	}
	if p.cfg.Decrypts {
		if err := p.decrypt(config); err != nil {
			return err
		}
	}
	if p.cfg.Collector != "" {
		if err := appendTo(config, "\ntracing: {endpoint: %q}\n", p.cfg.Collector); err != nil {
			return err
		}
	}
	if p.listen, err = freeAddress(); err != nil {
		return err
	}
	kubeconfig := p.AgentKubeconfig()
	if err := cluster.ServiceAccountKubeconfig(ctx, p.Kubeconfig(), agentNamespace, agentAccount, kubeconfig); err != nil {
		return err
	}
	if p.cfg.Through != nil {
		if err := p.cfg.Through(kubeconfig); err != nil {
			return err
		}
	}
	p.spec = process.Spec{
		Path: s.cfg.Programs[build.Agent],
		Args: []string{"--config", config, "--kubeconfig", kubeconfig, "--listen", p.listen},
		Dir:  p.dir,
		Log:  filepath.Join(p.dir, "agent.log"),
	}
	return nil
}

// decrypt adds to the agent's configuration that it has keys.
func (p *Spoke) decrypt(config string) error {
	if err := os.MkdirAll(p.AgeKeys(), 0o700); err != nil {
		return err
	}
	return appendTo(config, "\ndecryption:\n  age: {keyFiles: [%q]}\n  apps: {matchNames: [\"*/*\"]}\n", p.AgeKeys())
}

func appendTo(config, format string, args ...any) error {
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	return os.WriteFile(config, fmt.Appendf(b, format, args...), 0o600)
}

func (s *Stage) joinArgs(cfg SpokeConfig) []string {
	args := []string{"join", cfg.Name}
	for _, key := range slices.Sorted(maps.Keys(cfg.Labels)) {
		args = append(args, "--label", key+"="+cfg.Labels[key])
	}
	for _, key := range cfg.Assignable {
		args = append(args, "--assignable", key)
	}
	args = append(args,
		"--repo", s.RepositoryURL(), "--path", cmp.Or(cfg.Root, fleetRoot), "--poll", pollInterval,
		"--git-username-file", s.gitSecret("username"), "--git-password-file", s.gitSecret("password"))
	if cfg.NeedsApproval {
		args = append(args, "--require-approval", "--approver", ApproverName, "--allowed-signers", s.Approver.AllowedSigners)
	}
	return append(args, cfg.JoinFlags...)
}

// enrolled says nil once the hub has heard of the cluster's agent.
func (s *Stage) enrolled(ctx context.Context, name string) error {
	all, err := s.Hub.Client.Clusters(ctx, fleet.ClusterFilter{Names: []string{name}})
	if err != nil {
		return err
	}
	if len(all) == 0 || all[0].LastSeen.IsZero() {
		return errors.New("the hub has not heard of it")
	}
	return nil
}

// StartAgent starts the agent, anew if it was killed.
func (p *Spoke) StartAgent() (err error) {
	p.agent, err = process.Start(p.spec)
	return err
}

// StartStandby starts one more agent, from the same configuration: it waits for
// the Lease, as the second replica of a Deployment does.
func (p *Spoke) StartStandby() (err error) {
	if p.waiting, err = freeAddress(); err != nil {
		return err
	}
	spec := p.spec
	spec.Args = append(slices.Clone(spec.Args), "--listen", p.waiting) // the last one counts
	p.standby, err = process.Start(spec)
	return err
}

func freeAddress() (string, error) {
	port, err := cluster.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// AgentAddress is where the agent answers probes and shows its metrics. After Install.
func (p *Spoke) AgentAddress() string { return p.listen }

// StandbyAddress is where the one does that waits for the Lease. After StartStandby.
func (p *Spoke) StandbyAddress() string { return p.waiting }

// AgentLog is the file the agent logs to.
func (p *Spoke) AgentLog() string { return p.spec.Log }

// Agent is the running agent.
func (p *Spoke) Agent() *process.Process { return p.agent }

// StopAgent ends the agent, as the node it runs on would.
func (p *Spoke) StopAgent() error { return terminate(p.agent) }

// Uninstall takes what Join applied off the cluster again.
func (s *Stage) Uninstall(ctx context.Context, name string) error {
	p := s.Spoke(name)
	if p == nil || p.manifests == "" {
		return nil
	}
	_, err := s.kubectl(ctx, p.Kubeconfig(), p.manifests, "delete", "--ignore-not-found", "-f", "-")
	return err
}

func (p *Spoke) close() error {
	errs := []error{terminate(p.standby), terminate(p.agent)}
	if p.Cluster != nil {
		errs = append(errs, p.Cluster.Close())
	}
	return errors.Join(errs...)
}
