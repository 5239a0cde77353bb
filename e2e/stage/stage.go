// Package stage puts a whole fleet on one machine, from the programs as they are
// built: the hub, a Git server with a fleet repository, and for each cluster a
// control plane with an agent that has exactly its ServiceAccount's rights. The
// demo and the scenarios both play on it.
package stage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/gitserver"
)

// Config says where to build a stage, and from what.
type Config struct {
	Dir      string                   // everything is kept here; Close leaves it
	Programs map[build.Program]string // paths of all programs
	Say      func(command string)     // told each command line before it runs; nil: nobody is
}

// Stage is what stands so far. Its methods may be used from several goroutines.
type Stage struct {
	cfg Config

	Git      *gitserver.Server   // after StartGit
	Fleet    *gitserver.WorkTree // the fleet repository's working clone; after StartGit
	Hub      *Hub                // after StartHub
	Approver Approver

	mu     sync.Mutex
	spokes map[string]*Spoke
}

// New makes an empty stage, with an approver's key.
func New(cfg Config) (*Stage, error) {
	for _, dir := range []string{cfg.Dir, filepath.Join(cfg.Dir, "bin")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	s := &Stage{cfg: cfg, spokes: make(map[string]*Spoke)}
	for _, p := range []build.Program{build.CLI, build.Kubectl} {
		if err := place(cfg.Programs[p], filepath.Join(s.Bin(), string(p))); err != nil {
			return nil, err
		}
	}
	var err error
	s.Approver, err = NewApprover(cfg.Dir)
	return s, err
}

// place links a program into bin; where links don't reach, it copies.
func place(program, path string) error {
	if os.Link(program, path) == nil {
		return nil
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o755)
}

// Close ends everything, agents first.
func (s *Stage) Close() error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, spoke := range s.Spokes() {
		all.Go(func() {
			err := spoke.close()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	if s.Hub != nil {
		errs = append(errs, s.Hub.close())
	}
	if s.Git != nil {
		errs = append(errs, s.Git.Close())
	}
	return errors.Join(errs...)
}

// Bin is a directory that holds capstan and kubectl, and nothing else.
func (s *Stage) Bin() string { return filepath.Join(s.cfg.Dir, "bin") }

// Spokes lists the spokes by name.
func (s *Stage) Spokes() []*Spoke {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Spoke
	for _, name := range slices.Sorted(maps.Keys(s.spokes)) {
		all = append(all, s.spokes[name])
	}
	return all
}

// Spoke returns the spoke of that name, or nil.
func (s *Stage) Spoke(name string) *Spoke {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spokes[name]
}

// Env is what somebody who works with the fleet needs in their environment, in
// the order they would set it: names with values, all absolute.
func (s *Stage) Env() [][2]string {
	env := [][2]string{
		{"PATH", s.Bin() + string(os.PathListSeparator) + os.Getenv("PATH")},
		{"NO_PROXY", withLoopback(os.Getenv("NO_PROXY"))},
		{"no_proxy", withLoopback(os.Getenv("no_proxy"))},
		{"CAPSTAN_HUB", s.Hub.URL},
		{"CAPSTAN_TOKEN", s.Hub.Token},
		{"CAPSTAN_KEY", s.Approver.Key},
		{"CAPSTAN_KNOWN_AGENTS", filepath.Join(s.cfg.Dir, "known_agents")},
		{"FLEET_REPO", s.Fleet.Dir()},
	}
	for _, spoke := range s.Spokes() {
		env = append(env, [2]string{"KUBECONFIG_" + strings.ToUpper(spoke.Name()), spoke.Kubeconfig()})
	}
	return env
}

// withLoopback keeps a user's proxy from being asked for what runs here.
func withLoopback(noProxy string) string {
	return strings.TrimPrefix(noProxy+",127.0.0.1,localhost", ",")
}

// environ is Env for a child process.
func (s *Stage) environ() []string {
	env := os.Environ()
	for _, kv := range s.Env() {
		env = append(env, kv[0]+"="+kv[1])
	}
	return env
}

// Shell says a script, runs it with the stage's environment, and returns what it
// printed on stdout and stderr.
func (s *Stage) Shell(ctx context.Context, script string) (string, error) {
	if s.cfg.Say != nil {
		s.cfg.Say(script)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env, cmd.Dir = s.environ(), s.cfg.Dir
	cmd.WaitDelay = endWithin
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return string(out), nil
}

// Capstan runs the CLI and returns what it printed on stdout.
func (s *Stage) Capstan(ctx context.Context, args ...string) (string, error) {
	s.say("capstan", args...)
	return s.output(ctx, "", filepath.Join(s.Bin(), string(build.CLI)), args...)
}

// Kubectl runs kubectl on a spoke's cluster, as its administrator.
func (s *Stage) Kubectl(ctx context.Context, spoke, stdin string, args ...string) (string, error) {
	sp := s.Spoke(spoke)
	if sp == nil {
		return "", fmt.Errorf("there is no cluster %s", spoke)
	}
	return s.kubectl(ctx, sp.Kubeconfig(), stdin, args...)
}

func (s *Stage) kubectl(ctx context.Context, kubeconfig, stdin string, args ...string) (string, error) {
	return s.output(ctx, stdin, filepath.Join(s.Bin(), string(build.Kubectl)),
		append([]string{"--kubeconfig", kubeconfig}, args...)...)
}

func (s *Stage) output(ctx context.Context, stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = s.environ(), s.cfg.Dir
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

func (s *Stage) say(program string, args ...string) {
	if s.cfg.Say == nil {
		return
	}
	words := []string{program}
	for _, a := range args {
		words = append(words, Quote(a))
	}
	s.cfg.Say(strings.Join(words, " "))
}

// Quote writes a word so that a shell reads it as it is.
func Quote(word string) string {
	plain := func(r rune) bool {
		return strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
