// Package e2e_test plays the scenarios in testdata on a whole fleet: real
// control planes, the hub, a Git server, and agents, from the programs as they
// are built.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var programs map[build.Program]string

func TestMain(m *testing.M) {
	var err error
	if programs, err = build.MakeAll(context.Background(), nil, build.All...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestScenarios gives each script a stage of its own, with the fleet repository
// published and the hub up; the script brings the clusters.
func TestScenarios(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUp,
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		ContinueOnError:     false,
	})
}

type fleetKey struct{}

// stageDir is where a script's stage is, below its working directory.
const stageDir = ".stage"

func setUp(env *testscript.Env) error {
	ctx, cancel := context.WithCancel(context.Background())
	dir := filepath.Join(env.WorkDir, stageDir)
	s, err := stage.New(stage.Config{Dir: dir, Programs: programs})
	if err != nil {
		cancel()
		return err
	}
	p := &play{
		ctx: ctx, stage: s, work: env.WorkDir,
		started: make(map[string]chan error), uids: make(map[string]string), sent: make(map[string]fleet.SignedApproval), wires: make(map[string]*wire),
	}
	env.Values[fleetKey{}] = p
	env.Defer(func() {
		if t, ok := env.T().(interface{ Failed() bool }); ok && t.Failed() {
			p.showLogs(env.T().Log, dir)
		}
		p.wait()
		if err := p.endControllers(); err != nil {
			env.T().Log(err)
		}
		if p.other != nil {
			if err := p.other.server.Close(); err != nil {
				env.T().Log(err)
			}
		}
		if p.collector != nil {
			defer p.collector.Close() // the agents send what waits as they end
		}
		for _, w := range p.wires {
			defer w.Close()
		}
		if err := s.Close(); err != nil {
			env.T().Log(err)
		}
		cancel()
	})
	if err := s.StartGit(ctx); err != nil {
		return err
	}
	if err := s.StartHub(ctx); err != nil {
		return err
	}
	repo, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	env.Setenv("REPO", repo)
	for _, kv := range s.Env() {
		env.Setenv(kv[0], kv[1])
	}
	return nil
}
