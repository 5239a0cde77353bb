package swarm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const within = time.Minute

func wait(t *testing.T, ready func() error) {
	t.Helper()
	if err := swarm.Wait(t.Context(), within, ready); err != nil {
		t.Fatal(err)
	}
}

// The link is the real one on both sides: a hub that was lost and restored from
// a backup is accepted by its agents, is heeded at once though they heard more
// than the backup knows, and hears from them how everything is.
func TestAgentsAcceptARestoredHub(t *testing.T) {
	program, err := build.Make(context.Background(), build.Hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "hub")
	hub, err := swarm.NewHub(swarm.HubConfig{Program: program, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hub.Close() })
	agent := &swarm.Agent{Name: "dev", Assignable: []string{"env", "tier"}, Beat: 200 * time.Millisecond}
	agent.Set(app("before"))
	grant, err := hub.Client.Join(t.Context(), "dev", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(grant.Token); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Kill() })
	label := func(key, value string) {
		t.Helper()
		wait(t, func() error { // until the hub knows the cluster
			_, err := hub.Client.LabelCluster(t.Context(), "dev", map[string]string{key: value}, nil)
			return err
		})
		wait(t, func() error {
			if got := agent.Intent().Labels[key]; got != value {
				return fmt.Errorf("the agent has %s=%q, want %q", key, got, value)
			}
			return nil
		})
	}
	label("env", "one")
	file, phrase := filepath.Join(t.TempDir(), "hub.backup"), filepath.Join(t.TempDir(), "phrase")
	if err := os.WriteFile(phrase, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, program, "backup", "--data-dir", dir, "--passphrase-file", phrase, file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info, err)
	}
	// What the backup does not know.
	for i := range 5 {
		label("tier", fmt.Sprint(i))
	}
	agent.Set(app("after"))
	wait(t, func() error { return settled(agent) })
	if err := hub.Kill(); err != nil {
		t.Fatal(err)
	}
	heard, greeted := agent.Intent().Revision, agent.Greetings()
	if err := os.Rename(dir, dir+".lost"); err != nil {
		t.Fatal(err)
	}
	call(t, program, "restore", "--data-dir", dir, "--passphrase-file", phrase, file)
	if err := hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, func() error {
		if agent.Greetings() == greeted {
			return errors.New("the agent is not back")
		}
		return settled(agent)
	})
	apps, err := hub.Client.Apps(t.Context(), fleet.AppFilter{Clusters: []string{"dev"}})
	if err != nil || len(apps) != 1 || apps[0].Message != "after" || apps[0].Stale {
		t.Errorf("the restored hub shows %+v, %v", apps, err)
	}
	// The next change counts, and takes nothing away that the backup did not know.
	label("env", "two")
	if in := agent.Intent(); in.Revision <= heard || in.Labels["tier"] != "4" {
		t.Errorf("the agent has %+v, and had revision %d", in, heard)
	}
}

func app(message string) fleet.AppStatus {
	return fleet.AppStatus{Namespace: "team-a", App: "web", Revision: "main@sha1:0123456789abcdef0123456789abcdef01234567", Sync: fleet.Synced, Health: fleet.Healthy, Message: message}
}

func settled(a *swarm.Agent) error {
	if !a.Settled() {
		return errors.New("the hub has not heard everything")
	}
	return nil
}

func call(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}
