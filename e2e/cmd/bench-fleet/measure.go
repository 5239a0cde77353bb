package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/e2e/gauge"
	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// fleetBench is one size being measured.
type fleetBench struct {
	o      options
	hub    *swarm.Hub
	agents []*swarm.Agent
	labels *tally
	out    entry
}

func measure(ctx context.Context, o options, program string, n int) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, o.within)
	defer cancel()
	dir := o.keep
	if dir == "" {
		d, err := os.MkdirTemp("", "bench-fleet-")
		if err != nil {
			return entry{}, err
		}
		defer os.RemoveAll(d)
		dir = d
	}
	hub, err := swarm.NewHub(swarm.HubConfig{Program: program, Dir: filepath.Join(dir, fmt.Sprintf("hub-%d", n)), Callers: callers})
	if err != nil {
		return entry{}, err
	}
	b := &fleetBench{o: o, hub: hub, labels: &tally{}, out: entry{Agents: n, Apps: n * o.apps}}
	b.people(n)
	defer b.close()
	if err := hub.Start(ctx); err != nil {
		return entry{}, err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"enrol", b.enrol},
		{"connect", b.connect},
		{"label", b.label},
		{"query", b.query},
		{"idle", b.idle},
		{"kill", b.kill},
	} {
		from := time.Now()
		if err := step.run(ctx); err != nil {
			return b.out, fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%d agents: %s took %.1f s\n", n, step.name, time.Since(from).Seconds())
	}
	return b.out, nil
}

// callers are the people, or programs, that ask at a time: one alone may ask no
// more than fifty times a second.
const callers = 500

// people makes the agents, and their apps as they look when all is well.
func (b *fleetBench) people(n int) {
	for i := range n {
		a := &swarm.Agent{
			Name:       fmt.Sprintf("cluster-%05d", i),
			Declared:   map[string]string{"env": []string{"dev", "staging", "prod"}[i%3], "shard": fmt.Sprint(i % 100)},
			Assignable: []string{"wave"},
		}
		a.Took = func(in fleet.Intent) { b.labels.note(in.Labels["wave"]) }
		for j := range b.o.apps {
			a.Set(status(j, "1"))
		}
		b.agents = append(b.agents, a)
	}
}

func status(app int, round string) fleet.AppStatus {
	name := fmt.Sprintf("service-%02d", app)
	return fleet.AppStatus{
		Namespace: "team-a", App: name, Sync: fleet.Synced, Health: fleet.Healthy,
		Revision: "main@sha1:0123456789abcdef0123456789abcdef01234567",
		Digest:   "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Message:  "applied 7 objects, all healthy: " + round, Reason: "Ready", Objects: 7, Path: "apps/" + name + "/overlays/prod",
		Changed: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
	}
}

func (b *fleetBench) close() {
	var g errgroup.Group
	g.SetLimit(64)
	for _, a := range b.agents {
		g.Go(a.Kill)
	}
	if err := errors.Join(g.Wait(), b.hub.Close()); err != nil {
		fmt.Fprintln(os.Stderr, "close:", err)
	}
}

func (b *fleetBench) enrol(ctx context.Context) error {
	from := time.Now()
	err := swarm.Enrol(ctx, b.hub, b.agents)
	b.out.EnrolS = time.Since(from).Seconds()
	return err
}

// connect starts every agent at once and waits until the hub knows all apps.
func (b *fleetBench) connect(ctx context.Context) error {
	from := time.Now()
	for _, a := range b.agents {
		if err := a.Start(""); err != nil {
			return err
		}
	}
	if err := b.reported(ctx, nil, from); err != nil {
		return err
	}
	b.out.ConnectS = time.Since(from).Seconds()
	return b.rest(ctx)
}

// reported waits until the hub has heard every agent since, and all of its
// apps. greeted is how often each agent had been answered before, by index.
func (b *fleetBench) reported(ctx context.Context, greeted []int, since time.Time) error {
	// Asking for ten thousand clusters is work for the hub: the agents know when it is worth it.
	err := swarm.Wait(ctx, b.o.within, func() error {
		for i, a := range b.agents {
			if !a.Settled() || greeted != nil && a.Greetings() == greeted[i] {
				return fmt.Errorf("%s has not been answered", a.Name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return swarm.Wait(ctx, b.o.within, func() error {
		all, err := b.hub.Client.Clusters(ctx, fleet.ClusterFilter{})
		if err != nil {
			return err
		}
		if len(all) != len(b.agents) {
			return fmt.Errorf("%d clusters are known", len(all))
		}
		for _, c := range all {
			if c.LastSeen.Before(since) || c.Apps.Synced != b.o.apps {
				return fmt.Errorf("%s: last seen %s, %d apps synced", c.Cluster, c.LastSeen, c.Apps.Synced)
			}
		}
		return nil
	})
}

// rest lets the hub come to rest and takes its memory.
func (b *fleetBench) rest(ctx context.Context) error {
	if err := pause(ctx, 20*time.Second); err != nil {
		return err
	}
	pid := b.hub.PID()
	b.out.RSSMiB = max(b.out.RSSMiB, gauge.Memory(pid, gauge.Resident))
	b.out.RSSPeakMiB = max(b.out.RSSPeakMiB, gauge.Memory(pid, gauge.Peak))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// labelRounds is how often all clusters are labelled: one round takes about a
// second, in which one collection of garbage more or less shows.
const labelRounds = 5

// label sets one label on every cluster, by one call, and waits until each agent
// has it; again and again, with rests between.
func (b *fleetBench) label(ctx context.Context) error {
	var names []string
	for _, a := range b.agents {
		names = append(names, a.Name)
	}
	var took []time.Duration
	for round := range labelRounds {
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		value := fmt.Sprint(round)
		all := b.labels.wait(value, len(b.agents))
		from := time.Now()
		if _, err := b.hub.Caller().LabelClusters(ctx, names, map[string]string{"wave": value}, nil); err != nil {
			return err
		}
		select {
		case <-all:
		case <-ctx.Done():
			return ctx.Err()
		}
		took = append(took, time.Since(from))
	}
	b.out.LabelAllS, b.out.LabelWorstS = gauge.Percentile(took, 0.5), gauge.Percentile(took, 1)
	return nil
}

// tally counts the agents that have taken a value.
type tally struct {
	mu   sync.Mutex
	want string
	left int
	done chan struct{}
}

func (t *tally) wait(value string, n int) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want, t.left, t.done = value, n, make(chan struct{})
	return t.done
}

func (t *tally) note(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 || value != t.want {
		return
	}
	if t.left--; t.left == 0 {
		close(t.done)
	}
}

// reportsPerSecond come while queries are measured.
const reportsPerSecond = 1000

// query asks for the apps of one shard in a hundred, again and again.
func (b *fleetBench) query(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.o.queries)
	defer cancel()
	sent := 0
	var g errgroup.Group
	g.Go(func() error {
		const every = 10 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			for range reportsPerSecond * int(every) / int(time.Second) {
				b.agents[sent%len(b.agents)].Set(status(sent/len(b.agents)%b.o.apps, fmt.Sprint(sent)))
				sent++
			}
		}
	})
	from := time.Now()
	var took []time.Duration
	q := url.Values{"selector": {"shard=7"}}
	for i := 0; ctx.Err() == nil; i++ {
		one := time.Now()
		err := b.get(ctx, "/api/v1/apps?"+q.Encode())
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		took = append(took, time.Since(one))
		_ = pause(ctx, 20*time.Millisecond)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.out.Reports = float64(sent) / time.Since(from).Seconds()
	b.out.QueryP50MS, b.out.QueryP99MS = 1000*gauge.Percentile(took, 0.5), 1000*gauge.Percentile(took, 0.99)
	return nil
}

// get reads an answer to its end; what is in it is not looked at.
func (b *fleetBench) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.hub.URL+path, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+b.hub.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return nil
}

func (b *fleetBench) idle(ctx context.Context) error {
	if err := pause(ctx, 5*time.Second); err != nil { // the last reports
		return err
	}
	pid := b.hub.PID()
	from, before := time.Now(), gauge.CPU(pid)
	if err := pause(ctx, b.o.idle); err != nil {
		return err
	}
	b.out.CPUIdlePct = 100 * (gauge.CPU(pid) - before) / time.Since(from).Seconds()
	return nil
}

// kill ends the hub as a crash would, starts it again and waits for everybody.
func (b *fleetBench) kill(ctx context.Context) error {
	greeted := make([]int, len(b.agents))
	for i, a := range b.agents {
		greeted[i] = a.Greetings()
	}
	from := time.Now()
	if err := b.hub.Kill(); err != nil {
		return err
	}
	if err := b.hub.Start(ctx); err != nil {
		return err
	}
	if err := b.reported(ctx, greeted, from); err != nil {
		return err
	}
	b.out.ResyncS = time.Since(from).Seconds()
	if err := b.rest(ctx); err != nil {
		return err
	}
	return b.rebuilt()
}

// rebuilt reads from the hub's log how long the last start took to read all.
func (b *fleetBench) rebuilt() error {
	f, err := os.Open(b.hub.Log())
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Msg     string
			Seconds float64
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "read the state" {
			b.out.RebuildS = line.Seconds
		}
	}
	return lines.Err()
}
