package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/gauge"
	"github.com/capstan-gitops/capstan/e2e/gitserver"
	"github.com/capstan-gitops/capstan/e2e/stage"
)

type sourceOptions struct {
	apps   int
	settle time.Duration
}

// fewApps is how many of the monorepo's apps the small cluster uses.
const fewApps = 20

// sourceBench measures what a large repository costs, with one cluster that uses
// a few of its apps and one that uses all.
type sourceBench struct {
	o     options
	dir   string
	stage *stage.Stage
	out   sourceReport
}

func runSource(ctx context.Context, o options, programs map[build.Program]string) (err error) {
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "capstan-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	dir = filepath.Join(dir, sectionSource)
	s, err := stage.New(stage.Config{Dir: dir, Programs: programs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // the watches end before what they watch
	b := &sourceBench{o: o, dir: dir, stage: s, out: sourceReport{Apps: o.source.apps}}
	for _, step := range []struct {
		say string
		do  func(context.Context) error
	}{
		{"a Git server with a monorepo, and a hub", b.start},
		{"measuring the floor: git clone", b.floor},
		{"clone, without a cluster", b.clone},
		{"deciding what to render", b.decide},
		{fmt.Sprintf("a cluster that uses %d apps", fewApps), func(ctx context.Context) error {
			return b.cluster(ctx, "few", fewApps, &b.out.Few)
		}},
		{"a cluster that uses all apps", func(ctx context.Context) error {
			return b.cluster(ctx, "all", o.source.apps, &b.out.All)
		}},
	} {
		fmt.Printf("source, %d apps: %s\n", o.source.apps, step.say)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("source: %s: %w", step.say, err)
		}
	}
	b.out.fold()
	printSource(os.Stdout, b.out)
	return gauge.WriteSection(filepath.Join(build.Root(), "bench.json"), sectionSource, b.out)
}

func (b *sourceBench) start(ctx context.Context) error {
	if err := b.stage.StartGit(ctx); err != nil {
		return err
	}
	files := wideRepo(b.o.source.apps)
	b.out.Files = len(files)
	if _, err := b.stage.Fleet.Push(ctx, "Bring all apps", files); err != nil {
		return err
	}
	return b.stage.StartHub(ctx)
}

// cluster starts one whose agent reads the root of that name, which brings some
// of the apps, and measures it. Then it is ended: there is one at a time.
func (b *sourceBench) cluster(ctx context.Context, name string, apps int, into *sourceCluster) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := b.stage.AddCluster(ctx, stage.SpokeConfig{Name: name, Root: "clusters/" + name, AuditLog: true}); err != nil {
		return err
	}
	spoke := b.stage.Spoke(name)
	defer func() { err = errors.Join(err, spoke.StopAgent(), spoke.Cluster.Close()) }()
	cfg, err := clientcmd.BuildConfigFromFlags("", spoke.Kubeconfig())
	if err != nil {
		return err
	}
	cfg.QPS = -1
	api, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	before := b.stage.Git.Traffic()
	start := time.Now()
	if err := b.stage.Join(ctx, name); err != nil {
		return err
	}
	watch, err := newWatcher(ctx, cfg, api)
	if err != nil {
		return err
	}
	one := &bench{o: b.o, apps: apps, stage: b.stage, spoke: spoke, api: api, watch: watch}
	limit := time.Minute + time.Duration(apps)*400*time.Millisecond
	if err := one.watch.until(ctx, limit, func(s *seen) bool { return s.applied() >= apps*kindsPerApp && s.ready >= apps }); err != nil {
		return err
	}
	into.SyncS = time.Since(start).Seconds()
	into.sync = b.stage.Git.Traffic().Since(before)
	if err := one.quiet(ctx); err != nil {
		return err
	}
	if err := b.idle(ctx, into); err != nil {
		return err
	}
	watch.contents(ctx, api)
	into.RSSMiB, into.PeakMiB = gauge.Memory(one.pid(), "VmRSS"), gauge.Memory(one.pid(), "VmHWM")
	if err := b.oneFile(ctx, one, apps-1, into); err != nil {
		return err
	}
	return b.elsewhere(ctx, one, into)
}

// idle lets memory settle, and counts what polling costs meanwhile.
func (b *sourceBench) idle(ctx context.Context, into *sourceCluster) error {
	before := b.stage.Git.Traffic()
	if err := wait(ctx, b.o.source.settle); err != nil {
		return err
	}
	now := b.stage.Git.Traffic().Since(before)
	if n := now.Requests; n > 0 {
		into.PollBytes = now.Bytes() / n
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

const sourceRounds = 5

// oneFile commits a change of one file that the cluster uses.
func (b *sourceBench) oneFile(ctx context.Context, one *bench, app int, into *sourceCluster) error {
	name := appName(app)
	var took []time.Duration
	var sent []int64
	for i := range sourceRounds {
		value := fmt.Sprintf("%s-round-%d", one.spoke.Name(), i)
		logged, err := one.rendered()
		if err != nil {
			return err
		}
		before, from := b.stage.Git.Traffic(), time.Now()
		if _, err := b.stage.Fleet.Push(ctx, "Change "+name, overlay(name, value, firstRelease)); err != nil {
			return err
		}
		start := maxTime(from, b.stage.Git.LastPush())
		if err := one.watch.until(ctx, time.Minute, func(s *seen) bool { return s.values[name] == value }); err != nil {
			return err
		}
		took = append(took, time.Since(start))
		now := b.stage.Git.Traffic().Since(before)
		sent = append(sent, now.Bytes())
		into.CommitRequests = max(into.CommitRequests, now.Requests)
		if err := one.quiet(ctx); err != nil {
			return err
		}
		after, err := one.rendered()
		if err != nil {
			return err
		}
		into.Renders = max(into.Renders, after-logged)
	}
	into.CommitS, into.CommitBytes = gauge.Percentile(took, 0.5), median(sent)
	return nil
}

// elsewhere commits a change of one file that no app of the cluster uses.
func (b *sourceBench) elsewhere(ctx context.Context, one *bench, into *sourceCluster) error {
	logged, err := one.rendered()
	if err != nil {
		return err
	}
	before := b.stage.Git.Traffic()
	if _, err := b.stage.Fleet.Push(ctx, "Change a text", map[string]string{"apps/" + appName(1) + "/README.md": one.spoke.Name() + prose(7, 40)}); err != nil {
		return err
	}
	if err := wait(ctx, 2*time.Second); err != nil { // the hub is told of a push at once
		return err
	}
	into.ElsewhereBytes = b.stage.Git.Traffic().Since(before).Bytes()
	if err := one.quiet(ctx); err != nil {
		return err
	}
	after, err := one.rendered()
	into.ElsewhereRenders = after - logged
	return err
}

// traffic is what reading costs, as bench.json has it.
type traffic struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

func newTraffic(t gitserver.Traffic) traffic { return traffic{t.Requests, t.Bytes()} }
