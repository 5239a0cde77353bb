package swarm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The link is the real one on both sides: an agent that gets out over WebSocket
// alone trusts the hub's own CA by its join token, outlives a change of the keys
// and one of the CA, and is missed soon after it went.
func TestAnAgentComesOverWebSocketAlone(t *testing.T) {
	program, err := build.Make(context.Background(), build.Hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	port, err := cluster.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "hub")
	web := fmt.Sprintf("127.0.0.1:%d", port)
	hub, err := swarm.NewHub(swarm.HubConfig{Program: program, Dir: dir, Args: []string{
		"--nats-tls", "on", "--nats-ws-listen", web, "--nats-url", "wss://" + web,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hub.Close() })
	agent := &swarm.Agent{Name: "edge", Beat: 500 * time.Millisecond}
	agent.Set(app("before"))
	grant, err := hub.Client.Join(t.Context(), "edge", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(grant.Token); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Kill() })
	wait(t, func() error { return settled(agent) })

	// When the grace ends the connection of the old credential is cut: who is
	// back after that has a new one.
	greeted := agent.Greetings()
	call(t, program, "rotate-keys", "--data-dir", dir, "--grace", "10s")
	wait(t, func() error {
		if agent.Greetings() == greeted {
			return errors.New("nothing was cut")
		}
		return settled(agent)
	})
	agent.Set(app("after"))
	wait(t, func() error { return settled(agent) })
	apps, err := hub.Client.Apps(t.Context(), fleet.AppFilter{Clusters: []string{"edge"}})
	if err != nil || len(apps) != 1 || apps[0].Message != "after" || apps[0].Stale {
		t.Errorf("the hub shows %+v, %v", apps, err)
	}

	// The CA: told while the old one signs, and trusted alone when the new one does.
	trusts := func(n int) func() error {
		return func() error {
			if got := agent.Trusts(); got != n {
				return fmt.Errorf("it trusts %d CAs, not %d", got, n)
			}
			return settled(agent)
		}
	}
	call(t, program, "rotate-ca", "--data-dir", dir, "--grace", "10s")
	wait(t, trusts(2))
	next := filepath.Join(dir, "tls", "next.pem")
	wait(t, func() error {
		if _, err := os.Stat(next); err == nil {
			return errors.New("the old CA signs")
		}
		return nil
	})
	if err := hub.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, trusts(1))

	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(t, func() error {
		all, err := hub.Client.Clusters(t.Context(), fleet.ClusterFilter{})
		if err == nil && (len(all) != 1 || !all[0].Stale || all[0].LinkDown == nil) {
			err = fmt.Errorf("the hub shows %+v", all)
		}
		return err
	})
}
