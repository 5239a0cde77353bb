package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	cluster = "dev"
	key     = "env" // of the label that people change
	within  = 2 * time.Minute
)

// world is a hub on a small disk, with somebody who writes.
type world struct {
	hub   *swarm.Hub
	agent *swarm.Agent

	acknowledged []string // values of the label, in order
}

func begin(ctx context.Context, program, dir string) (*world, error) {
	hub, err := swarm.NewHub(swarm.HubConfig{Program: program, Dir: dir, Callers: 20})
	if err != nil {
		return nil, err
	}
	w := &world{hub: hub, agent: &swarm.Agent{Name: cluster, Assignable: []string{key}, Beat: 200 * time.Millisecond}}
	if err := hub.Start(ctx); err != nil {
		return nil, err
	}
	grant, err := hub.Client.Join(ctx, cluster, 0)
	if err == nil {
		err = w.agent.Start(grant.Token)
	}
	if err == nil {
		err = w.says(ctx, "begun")
	}
	if err != nil {
		return nil, errors.Join(err, w.end())
	}
	return w, nil
}

func (w *world) end() error { return errors.Join(w.agent.Kill(), w.hub.Close()) }

// says has the agent report, and waits until the hub has it.
func (w *world) says(ctx context.Context, message string) error {
	w.agent.Set(fleet.AppStatus{Namespace: "team-a", App: "web", Sync: fleet.Synced, Health: fleet.Healthy, Message: message})
	return swarm.Wait(ctx, within, func() error {
		apps, err := w.hub.Caller().Apps(ctx, fleet.AppFilter{})
		if err == nil && (len(apps) != 1 || apps[0].Message != message) {
			err = fmt.Errorf("the hub shows %+v, and the agent says %s", apps, message)
		}
		return err
	})
}

// label has somebody change the label, and notes what was acknowledged.
func (w *world) label(ctx context.Context, value string) error {
	_, err := w.hub.Caller().LabelCluster(ctx, cluster, map[string]string{key: value}, nil)
	if err == nil {
		w.acknowledged = append(w.acknowledged, value)
	}
	return err
}

// round fills the disk while people and the agent write, looks, makes room and
// looks again.
func (w *world) round(ctx context.Context, n int, filler string) error {
	writing, stop := context.WithCancel(ctx)
	defer stop()
	var wrong error
	var people sync.WaitGroup
	people.Go(func() { wrong = w.write(writing, n) })
	if err := fill(filler); err != nil {
		return err
	}
	err := swarm.Wait(ctx, within, func() error {
		if swarm.Ready(ctx, w.hub.URL) == nil {
			return errors.New("the hub says that it is ready, and its disk is full")
		}
		return nil
	})
	stop()
	people.Wait()
	if err := errors.Join(err, wrong); err != nil {
		return err
	}
	err = w.label(ctx, "full")
	if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") || fleet.Hint(err) == "" {
		return fmt.Errorf("a change while the disk is full: %w", err)
	}
	if err := w.look(ctx); err != nil {
		return fmt.Errorf("while the disk is full: %w", err)
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	if n%2 == 1 { // and killed before it has noticed
		if err := w.hub.Kill(); err != nil {
			return err
		}
		if err := w.hub.Start(ctx); err != nil {
			return err
		}
	}
	if err := swarm.Wait(ctx, within, func() error { return w.label(ctx, fmt.Sprint("room-", n)) }); err != nil {
		return fmt.Errorf("a change when there is room again: %w", err)
	}
	if err := w.says(ctx, fmt.Sprint("room-", n)); err != nil {
		return err
	}
	return w.look(ctx)
}

// write changes the label and the report until ctx ends: what the hub does not
// take it has to say.
func (w *world) write(ctx context.Context, n int) error {
	for i := 0; ctx.Err() == nil; i++ {
		value := fmt.Sprintf("v-%d-%d", n, i)
		w.agent.Set(fleet.AppStatus{Namespace: "team-a", App: "web", Sync: fleet.Synced, Health: fleet.Healthy, Message: value})
		// Not with ctx: what was asked for is waited for, or nobody knows what came of it.
		err := w.label(context.WithoutCancel(ctx), value)
		if err != nil && !errors.Is(err, fleet.ErrUnavailable) && !errors.Is(err, fleet.ErrTooOften) {
			return fmt.Errorf("a change is refused with %w", err)
		}
	}
	return nil
}

// fill writes a file until the file system takes nothing more.
func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for wrote := 0; ; wrote += len(block) {
		if wrote > 4<<30 {
			return errors.New("the file system is not a small one")
		}
		if _, err := f.Write(block); err != nil {
			return nil // this is what it is for
		}
	}
}

// look compares what the hub knows with what it acknowledged.
func (w *world) look(ctx context.Context) error {
	all, err := w.hub.Caller().Clusters(ctx, fleet.ClusterFilter{})
	if err != nil {
		return err
	}
	last := w.acknowledged[len(w.acknowledged)-1]
	if len(all) != 1 || all[0].Labels[key] != last {
		return fmt.Errorf("the last label that was acknowledged is %s, the hub shows %+v", last, all)
	}
	var recorded strings.Builder
	for f := (fleet.EventFilter{Actions: []string{"label"}, Limit: fleet.MaxEvents}); ; {
		page, err := w.hub.Caller().Events(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range page.Items {
			fmt.Fprintf(&recorded, "%s\n", e.Detail)
		}
		if f.Continue = page.Continue; f.Continue == "" {
			break
		}
	}
	for _, v := range w.acknowledged {
		if !strings.Contains(recorded.String(), `"`+v+`"`) {
			return fmt.Errorf("label %s was acknowledged, and is not in the audit log", v)
		}
	}
	return nil
}
