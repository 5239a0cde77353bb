package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	stepWithin = time.Minute
	lookEvery  = 200 * time.Millisecond
)

// show sets the stage, walks the scenario, and stays until ctx ends.
func (d *demo) show(ctx context.Context, programs map[build.Program]string, spokes []stage.SpokeConfig) (err error) {
	s, err := stage.New(stage.Config{Dir: d.dir, Programs: programs, Say: d.command})
	if err != nil {
		return err
	}
	defer func() {
		d.heading("Ending")
		err = errors.Join(err, d.removeEnv(), s.Close(), d.leave(s, spokes))
		d.say("nothing is left running")
	}()
	for _, step := range []func() error{
		func() error { return d.setUp(ctx, s, spokes) },
		func() error { return d.join(ctx, s, spokes) },
		func() error { return d.firstApp(ctx, s) },
		func() error { return d.commit(ctx, s) },
		func() error { return d.editByHand(ctx, s) },
		func() error { return d.approval(ctx, s) },
		func() error { return d.yourTurn(ctx, s) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (d *demo) setUp(ctx context.Context, s *stage.Stage, spokes []stage.SpokeConfig) error {
	d.heading("A Git server with a fleet repository, three Kubernetes clusters, and the hub")
	start := time.Now()
	if err := s.StartGit(ctx); err != nil {
		return err
	}
	d.say("the fleet repository is at %s", s.RepositoryURL())
	results := make(chan error)
	for _, cfg := range spokes {
		go func() { results <- s.AddCluster(ctx, cfg) }()
	}
	var errs []error
	for range spokes {
		errs = append(errs, <-results)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d.say("dev, staging and prod are up after %s", time.Since(start).Round(100*time.Millisecond))
	return s.StartHub(ctx)
}

func (d *demo) join(ctx context.Context, s *stage.Stage, spokes []stage.SpokeConfig) error {
	d.heading("Each cluster joins: its agent dials out, and nobody dials in")
	for _, cfg := range spokes {
		if err := s.Join(ctx, cfg.Name); err != nil {
			return err
		}
	}
	return d.sh(ctx, s, "capstan get clusters")
}

func (d *demo) firstApp(ctx context.Context, s *stage.Stage) error {
	d.heading("dev gets a label: the guestbook comes by itself, out of its overlay for dev")
	if err := d.sh(ctx, s, "capstan label cluster dev env=dev"); err != nil {
		return err
	}
	if err := d.until(ctx, s, "guestbook runs on dev", app("dev", fleet.Synced, fleet.Healthy)); err != nil {
		return err
	}
	if err := d.sh(ctx, s, "kubectl --kubeconfig $KUBECONFIG_DEV get deployments,services"); err != nil {
		return err
	}
	return d.sh(ctx, s, "capstan get apps")
}

func (d *demo) commit(ctx context.Context, s *stage.Stage) error {
	d.heading("A commit: two replicas on dev")
	const edit = `sed -i 's/count: 1/count: 2/' apps/guestbook/overlays/dev/kustomization.yaml`
	if err := d.sh(ctx, s, "cd $FLEET_REPO && "+edit+` && git commit -qam "Run two on dev" && git push -q`); err != nil {
		return err
	}
	return d.untilReplicas(ctx, s, 2)
}

func (d *demo) editByHand(ctx context.Context, s *stage.Stage) error {
	d.heading("Somebody edits by hand")
	if err := d.sh(ctx, s, "kubectl --kubeconfig $KUBECONFIG_DEV scale deployment guestbook-ui --replicas=7"); err != nil {
		return err
	}
	if err := d.untilReplicas(ctx, s, 2); err != nil {
		return err
	}
	return d.until(ctx, s, "and dev is as in Git", app("dev", fleet.Synced, fleet.Healthy))
}

func (d *demo) approval(ctx context.Context, s *stage.Stage) error {
	d.heading("prod asks a person first: it has a plan, and waits")
	if err := d.until(ctx, s, "guestbook waits on prod", app("prod", fleet.Pending, "")); err != nil {
		return err
	}
	if err := d.sh(ctx, s, "capstan get apps"); err != nil {
		return err
	}
	return d.sh(ctx, s, "capstan diff guestbook --cluster prod")
}

// sh runs a command line and shows what it says.
func (d *demo) sh(ctx context.Context, s *stage.Stage, script string) error {
	out, err := s.Shell(ctx, script)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		d.say("  %s", strings.TrimRight(line, "\n"))
	}
	return nil
}

func (d *demo) untilReplicas(ctx context.Context, s *stage.Stage, n int) error {
	want := fmt.Sprint(n)
	return d.until(ctx, s, "guestbook-ui on dev has "+want+" replicas", func(ctx context.Context, s *stage.Stage) error {
		got, err := s.Kubectl(ctx, "dev", "", "get", "deployment", "guestbook-ui", "-o", "jsonpath={.spec.replicas}")
		if err == nil && got != want {
			err = fmt.Errorf("it has %s", got)
		}
		return err
	})
}

type check func(context.Context, *stage.Stage) error

// app checks how the guestbook stands on a cluster; an empty health is any.
func app(cluster string, sync fleet.Sync, health fleet.Health) check {
	return func(ctx context.Context, s *stage.Stage) error {
		apps, err := s.Hub.Client.Apps(ctx, fleet.AppFilter{Clusters: []string{cluster}, Name: "guestbook"})
		if err != nil {
			return err
		}
		if len(apps) == 0 {
			return errors.New("the hub knows of no guestbook there")
		}
		a := apps[0]
		if a.Sync != sync || health != "" && a.Health != health {
			return fmt.Errorf("it is %s and %s: %s", a.Sync, a.Health, a.Message)
		}
		return nil
	}
}

// until waits for something that comes by itself, and says how long it took.
func (d *demo) until(ctx context.Context, s *stage.Stage, what string, done check) error {
	start := time.Now()
	limit, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		err := done(limit, s)
		if err == nil {
			d.say("  %s (%.1f s)", what, time.Since(start).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.Done():
			return fmt.Errorf("%s: not within %s: %w", what, stepWithin, err)
		case <-tick.C:
		}
	}
}
