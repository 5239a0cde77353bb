package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/gauge"
	"github.com/capstan-gitops/capstan/e2e/stage"
)

const (
	spoke     = "bench"
	agentUser = "system:serviceaccount:capstan-system:capstan-agent"
)

// bench is one size being measured.
type bench struct {
	o     options
	apps  int
	stage *stage.Stage
	spoke *stage.Spoke
	cfg   *rest.Config
	api   dynamic.Interface
	watch *watcher
	out   entry
}

func measure(ctx context.Context, o options, programs map[build.Program]string, apps int) (e entry, err error) {
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "capstan-bench-"); err != nil {
			return entry{}, err
		}
		defer os.RemoveAll(dir)
	}
	s, err := stage.New(stage.Config{Dir: filepath.Join(dir, fmt.Sprint(apps)), Programs: programs})
	if err != nil {
		return entry{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // the watches end before what they watch
	b := &bench{o: o, apps: apps, stage: s, out: entry{Apps: apps}}
	for _, step := range []struct {
		say string
		do  func(context.Context) error
	}{
		{"starting a control plane, a Git server and a hub", b.start},
		{"measuring the floor", b.floor},
		{"starting the agent", b.join},
		{"cold: one push brings all apps", b.cold},
		{"a commit that changes every object", b.all},
		{"one-app commits", b.commits},
		{fmt.Sprintf("idle for %s", o.idle), b.idle},
		{"drift", b.drift},
	} {
		fmt.Printf("%d apps: %s\n", apps, step.say)
		if err := step.do(ctx); err != nil {
			return entry{}, fmt.Errorf("%s: %w", step.say, err)
		}
	}
	return b.out, nil
}

func (b *bench) start(ctx context.Context) error {
	if err := b.stage.StartGit(ctx); err != nil {
		return err
	}
	if _, err := b.stage.Fleet.Push(ctx, "Empty the fleet", emptyRoot()); err != nil {
		return err
	}
	if err := b.stage.StartHub(ctx); err != nil {
		return err
	}
	if err := b.stage.AddCluster(ctx, stage.SpokeConfig{Name: spoke, AuditLog: true}); err != nil {
		return err
	}
	b.spoke = b.stage.Spoke(spoke)
	var err error
	if b.cfg, err = clientcmd.BuildConfigFromFlags("", b.spoke.Kubeconfig()); err != nil {
		return err
	}
	b.cfg.QPS = -1
	b.api, err = dynamic.NewForConfig(b.cfg)
	return err
}

// floor warms the API server up with a few objects, and then counts.
func (b *bench) floor(ctx context.Context) error {
	if _, err := floor(ctx, b.api, "warm", firstRelease, 0, 10); err != nil {
		return err
	}
	took, err := floor(ctx, b.api, "floor", firstRelease, 0, b.apps)
	if err != nil {
		return err
	}
	b.out.FloorS = took.Seconds()
	took, err = floor(ctx, b.api, "floor", nextRelease, 0, b.apps)
	b.out.All.FloorS = took.Seconds()
	return err
}

func (b *bench) join(ctx context.Context) error {
	if err := b.stage.Join(ctx, spoke); err != nil {
		return err
	}
	var err error
	if b.watch, err = newWatcher(ctx, b.cfg, b.api); err != nil {
		return err
	}
	return b.watch.until(ctx, time.Minute, func(s *seen) bool { return s.rootReady })
}

func (b *bench) pid() int { return b.spoke.Agent().PID() }

func (b *bench) cold(ctx context.Context) error {
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	var p peaks
	go p.watch(wctx, b.pid())
	cpuBefore := gauge.CPU(b.pid())
	start := time.Now()
	if _, err := b.stage.Fleet.Push(ctx, "Bring all apps", monorepo(b.apps)); err != nil {
		return err
	}
	start = maxTime(start, b.stage.Git.LastPush())
	if err := b.watch.until(ctx, b.limit(), func(s *seen) bool { return s.applied() >= b.apps*kindsPerApp }); err != nil {
		return err
	}
	b.out.ColdS = time.Since(start).Seconds()
	b.out.ColdRatio = b.out.ColdS / b.out.FloorS
	if err := b.watch.until(ctx, b.limit(), func(s *seen) bool { return s.ready >= b.apps }); err != nil {
		return err
	}
	b.out.SettledS = time.Since(start).Seconds()
	if err := b.quiet(ctx); err != nil {
		return err
	}
	all, err := b.requests(start)
	if err != nil {
		return err
	}
	b.out.ColdRequests = tally(all)
	b.out.CPUS.Cold = gauge.CPU(b.pid()) - cpuBefore
	b.out.RSSMiB.WorkerPeak = p.largestWorker()
	b.out.RSSMiB.Peak = gauge.Memory(b.pid(), gauge.Peak)
	return nil
}

// all is a commit to what every app is made of.
func (b *bench) all(ctx context.Context) error {
	from := time.Now()
	if _, err := b.stage.Fleet.Push(ctx, "Release all apps", released(b.apps)); err != nil {
		return err
	}
	start := maxTime(from, b.stage.Git.LastPush())
	if err := b.watch.until(ctx, b.limit(), func(s *seen) bool { return len(s.released) >= b.apps*kindsPerApp }); err != nil {
		return err
	}
	b.out.All.S = time.Since(start).Seconds()
	b.out.All.Ratio = b.out.All.S / b.out.All.FloorS
	if err := b.quiet(ctx); err != nil {
		return err
	}
	all, err := b.requests(from)
	b.out.All.Requests = tally(all)
	return err
}

// limit is how long all apps may take.
func (b *bench) limit() time.Duration {
	return time.Minute + time.Duration(b.apps)*100*time.Millisecond
}

// quiet waits until the agent has asked nothing of the API server for a while
// but to renew its Lease.
func (b *bench) quiet(ctx context.Context) error {
	for {
		from := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
		}
		all, err := b.requests(from)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return nil
		}
	}
}

// requests of the agent since a moment: without Events, Leases and watches.
func (b *bench) requests(since time.Time) ([]cluster.Request, error) {
	all, err := b.spoke.Cluster.Requests(agentUser, since)
	return slices.DeleteFunc(all, func(r cluster.Request) bool {
		return r.Verb == "watch" || r.Resource == "events" || r.Resource == "leases"
	}), err
}

func (b *bench) commits(ctx context.Context) error {
	b.watch.contents(ctx, b.api)
	var took []time.Duration
	for i := range b.o.rounds {
		name, value := appName(i%b.apps), fmt.Sprintf("round-%d", i)
		logged, err := b.rendered()
		if err != nil {
			return err
		}
		from := time.Now()
		if _, err := b.stage.Fleet.Push(ctx, "Change "+name, overlay(name, value, nextRelease)); err != nil {
			return err
		}
		start := maxTime(from, b.stage.Git.LastPush())
		if err := b.watch.until(ctx, time.Minute, func(s *seen) bool { return s.values[name] == value }); err != nil {
			return err
		}
		took = append(took, time.Since(start))
		if err := b.quiet(ctx); err != nil {
			return err
		}
		now, err := b.rendered()
		if err != nil {
			return err
		}
		all, err := b.requests(from)
		if err != nil {
			return err
		}
		b.out.OneCommit.Renders = max(b.out.OneCommit.Renders, now-logged)
		if len(all) > b.out.OneCommit.Requests {
			b.out.OneCommit.Requests, b.out.OneCommit.Which = len(all), describe(all)
		}
	}
	b.out.OneCommit.P50S = gauge.Percentile(took, 0.5)
	return nil
}

func describe(all []cluster.Request) []string {
	var out []string
	for _, r := range all {
		what := r.Verb + " " + r.Resource
		if r.Subresource != "" {
			what += "/" + r.Subresource
		}
		out = append(out, what)
	}
	return out
}

// rendered counts what the agent says it rendered.
func (b *bench) rendered() (int, error) {
	log, err := os.ReadFile(b.spoke.AgentLog())
	return strings.Count(string(log), "msg=rendered "), err
}

func (b *bench) idle(ctx context.Context) error {
	from, cpuBefore := time.Now(), gauge.CPU(b.pid())
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.o.idle):
	}
	minutes := b.o.idle.Minutes()
	b.out.RSSMiB.Idle = gauge.Memory(b.pid(), gauge.Resident)
	b.out.CPUS.IdlePerMin = (gauge.CPU(b.pid()) - cpuBefore) / minutes
	all, err := b.spoke.Cluster.Requests(agentUser, from)
	if err != nil {
		return err
	}
	b.out.Idle = idle{Minutes: minutes, Requests: tally(all)}
	return nil
}

// tally counts requests by what they were.
func tally(all []cluster.Request) map[string]int {
	n := map[string]int{}
	for _, what := range describe(all) {
		n[what]++
	}
	return n
}

func (b *bench) drift(ctx context.Context) error {
	var took []time.Duration
	for i := range b.o.rounds {
		name := appName(i % b.apps)
		start, err := b.watch.edit(ctx, b.api, name)
		if err != nil {
			return err
		}
		if err := b.watch.until(ctx, time.Minute, func(s *seen) bool { return s.replicas[name] == 0 }); err != nil {
			return err
		}
		took = append(took, time.Since(start))
		if err := b.quiet(ctx); err != nil {
			return err
		}
	}
	b.out.Drift = drift{P50S: gauge.Percentile(took, 0.5), P99S: gauge.Percentile(took, 0.99)}
	return nil
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
