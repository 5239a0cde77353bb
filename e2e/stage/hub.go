package stage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/gitserver"
	"github.com/capstan-gitops/capstan/e2e/process"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	startWithin = time.Minute
	endWithin   = 10 * time.Second
	pollEvery   = 50 * time.Millisecond
)

// Hub is a running hub.
type Hub struct {
	URL    string
	Token  string // of an administrator
	Client *client.Client

	spec process.Spec
	proc *process.Process
	hook string // a Git server's token
}

// GitWebhook is what a Git server is to call after a push.
func (h *Hub) GitWebhook() gitserver.Webhook {
	return gitserver.Webhook{URL: h.URL + "/hooks/git", Token: h.hook}
}

// StartHub starts the hub and lets the Git server, if there is one, call it.
func (s *Stage) StartHub(ctx context.Context) error {
	dir := filepath.Join(s.cfg.Dir, "hub")
	hook := rand.Text()
	if err := writeTokens(dir, hook); err != nil {
		return err
	}
	web, err := cluster.FreePort()
	if err != nil {
		return err
	}
	nats, err := cluster.FreePort()
	if err != nil {
		return err
	}
	h := &Hub{
		URL: fmt.Sprintf("http://127.0.0.1:%d", web),
		spec: process.Spec{
			Path: s.cfg.Programs[build.Hub],
			Args: []string{
				"--data-dir", dir, "--listen", fmt.Sprintf("127.0.0.1:%d", web),
				"--nats-listen", fmt.Sprintf("127.0.0.1:%d", nats), "--nats-url", fmt.Sprintf("nats://127.0.0.1:%d", nats),
			},
			Log: filepath.Join(s.cfg.Dir, "hub.log"),
		},
	}
	h.hook = hook
	s.Hub = h
	s.say("capstan-hub", h.spec.Args...)
	if err := h.Start(ctx); err != nil {
		return err
	}
	if s.Git != nil {
		s.Git.SetWebhook(h.GitWebhook())
	}
	return nil
}

// writeTokens has a hub know the Git server. It adds its administrator's token
// to the ones it finds.
func writeTokens(dir, hook string) error {
	sum := sha256.Sum256([]byte(hook))
	return writeSecrets(dir, map[string]string{"tokens": fmt.Sprintf("git-server hook sha256:%s\n", hex.EncodeToString(sum[:]))})
}

// Start starts the hub, anew if it was killed, and returns when it answers.
func (h *Hub) Start(ctx context.Context) (err error) {
	if h.proc, err = process.Start(h.spec); err != nil {
		return err
	}
	return waitFor(ctx, "the hub", h.proc, h.answers)
}

func (h *Hub) answers(ctx context.Context) error {
	if h.Client == nil {
		token, err := os.ReadFile(filepath.Join(h.spec.Args[1], "admin.token"))
		if err != nil {
			return err
		}
		h.Token = strings.TrimSpace(string(token))
		c, err := client.New(client.Config{URL: h.URL, Token: h.Token})
		if err != nil {
			return err
		}
		h.Client = c
	}
	_, err := h.Client.Clusters(ctx, fleet.ClusterFilter{})
	return err
}

// Kill ends the hub at once, as a crash would.
func (h *Hub) Kill() error { return h.proc.Kill() }

// Replace puts an empty hub in the place of the one there is, at the same
// addresses: it knows no cluster, and no cluster knows it.
func (h *Hub) Replace(ctx context.Context) error {
	if err := h.Kill(); err != nil {
		return err
	}
	dir := h.spec.Args[1]
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := writeTokens(dir, h.hook); err != nil {
		return err
	}
	h.Client = nil // it has another administrator
	return h.Start(ctx)
}

// Stop freezes the hub.
func (h *Hub) Stop() error { return h.proc.Stop() }

// Continue thaws the hub.
func (h *Hub) Continue() error { return h.proc.Continue() }

func (h *Hub) close() error { return terminate(h.proc) }

func terminate(p *process.Process) error {
	if p == nil {
		return nil
	}
	if err := p.Continue(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	return p.Terminate(ctx)
}

// waitFor waits until ready says nil; a process that ends first never will be.
func waitFor(ctx context.Context, what string, p *process.Process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended: %w\n%s", what, p.Err(), p.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", what, err, p.LogTail())
		case <-tick.C:
		}
	}
}
