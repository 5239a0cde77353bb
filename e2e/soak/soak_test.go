// Package soak_test kills what may be killed while people and agents work, and
// looks whether anything that was acknowledged is lost.
package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var (
	rounds = flag.Int("rounds", 8, "how often something is killed")
	within = flag.Duration("within", 3*time.Minute, "how long each test may take for that; what is left of the rounds is left out")
	seed   = flag.Uint64("seed", sampleSeed, "what is made up, and when something is killed; 0: another each time, as in make soak")
)

// sampleSeed is of the sample that make test runs, so that a change is judged by
// what it did, and not by the luck of the draw. Looking for more is for make soak.
const sampleSeed = 1

var programs map[build.Program]string

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	var err error
	if programs, err = build.MakeAll(context.Background(), nil, append(slices.Clone(build.All), build.NATSServer)...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	clusters = 6
	apps     = 3
	hubs     = 2
	servers  = 3
	// settled is how long it may take until all is well once nothing is killed.
	settled = 2 * time.Minute
)

// soak is a fleet on three NATS servers and two hubs.
type soak struct {
	servers *swarm.Servers
	line    *swarm.Line
	hubs    []*swarm.Hub
	agents  []*swarm.Agent
	random  *rand.Rand

	mu        sync.Mutex
	labels    map[string]int      // cluster -> the last value that was acknowledged
	approvals map[string][]string // cluster -> comments of those that were acknowledged
	noted     map[string]bool     // what must be in the audit log
	failed    int                 // requests that were not acknowledged
}

// TestNothingAcknowledgedIsLost kills hubs, NATS servers, agents and the line
// between them, one at a time and at any moment, while labels are set,
// approvals handed in and statuses reported.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Logf("seed %d", *seed)
	s := &soak{
		random: rand.New(rand.NewPCG(*seed, 0)), labels: map[string]int{},
		approvals: map[string][]string{}, noted: map[string]bool{},
	}
	s.start(t)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for _, a := range s.agents {
		work.Go(func() { s.people(ctx, a.Name) })
		work.Go(func() { s.report(ctx, a) })
	}
	end := time.Now().Add(*within)
	done := 0
	for ; done < *rounds && time.Now().Before(end); done++ {
		s.round(t, done)
	}
	stop()
	work.Wait()
	t.Logf("%d rounds; not acknowledged: %d requests", done, s.failed)
	if done < min(*rounds, 3) {
		t.Errorf("%d rounds are not enough to say anything", done)
	}
	s.check(t)
}

func (s *soak) start(t *testing.T) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	var err error
	if s.servers, err = swarm.NewServers(ctx, programs[build.NATSServer], programs[build.Hub], dir, servers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, s.servers.Close()) })
	for i := range servers {
		must(t, s.servers.Start(i))
	}
	must(t, s.servers.Ready(ctx))
	if s.line, err = swarm.NewLine(ctx, s.servers.Addresses()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.line.Close)
	for i := range hubs {
		h, err := swarm.NewHub(swarm.HubConfig{Program: programs[build.Hub], Dir: filepath.Join(dir, fmt.Sprintf("hub-%d", i+1)), Args: []string{
			"--nats-keys", s.servers.Keys, "--nats-url", s.servers.URLs(), "--nats-agent-url", "nats://" + s.line.Address(),
		}, Callers: 2 * clusters})
		must(t, err)
		must(t, h.Start(ctx))
		t.Cleanup(func() {
			if t.Failed() {
				log, _ := os.ReadFile(h.Log())
				t.Logf("%s:\n%s", h.Log(), log[max(0, len(log)-6000):])
			}
			must(t, h.Close())
		})
		s.hubs = append(s.hubs, h)
	}
	for i := range clusters {
		a := &swarm.Agent{Name: fmt.Sprintf("c%d", i), Assignable: []string{"wave"}, Beat: 500 * time.Millisecond}
		for j := range apps {
			a.Set(status(j, "0"))
		}
		s.agents = append(s.agents, a)
	}
	must(t, swarm.Enrol(ctx, s.hubs[0], s.agents))
	for _, a := range s.agents {
		must(t, a.Start(""))
		t.Cleanup(func() { must(t, a.Kill()) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func status(app int, message string) fleet.AppStatus {
	return fleet.AppStatus{Namespace: "shop", App: fmt.Sprintf("app%d", app), Sync: fleet.Synced, Health: fleet.Healthy, Message: message}
}

// round kills one thing, leaves it dead for a moment, and brings it back.
func (s *soak) round(t *testing.T, n int) {
	t.Helper()
	ctx := t.Context()
	moment := func() {
		timer := time.NewTimer(time.Duration(s.random.Int64N(int64(800 * time.Millisecond))))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	moment()
	switch n % 4 {
	case 0:
		h := s.hubs[s.random.IntN(hubs)]
		must(t, h.Kill())
		moment()
		must(t, h.Start(ctx))
	case 1:
		i := s.random.IntN(servers)
		must(t, s.servers.Kill(i))
		moment()
		must(t, s.servers.Start(i))
		must(t, s.servers.Ready(ctx)) // two dead ones of three would be another promise
	case 2:
		a := s.agents[s.random.IntN(clusters)]
		must(t, a.Kill())
		moment()
		must(t, a.Start(""))
	case 3:
		s.line.Cut()
		moment()
		s.line.Mend()
	}
}

// people set labels and hand approvals in, one after the other, by either hub.
func (s *soak) people(ctx context.Context, cluster string) {
	const mostApprovals = 60 // within one person's share of an intent
	for n := 1; ctx.Err() == nil; n++ {
		h := s.hubs[n%hubs]
		value := fmt.Sprint(n)
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := h.Caller().LabelCluster(ask, cluster, map[string]string{"wave": value}, nil)
		cancel()
		s.mu.Lock()
		if err == nil {
			s.labels[cluster] = n
			s.noted["label "+cluster+" "+value] = true
		} else {
			s.failed++
		}
		enough := len(s.approvals[cluster]) >= mostApprovals
		s.mu.Unlock()
		if n%5 == 0 && !enough {
			s.approve(ctx, h, cluster, fmt.Sprintf("%s-%d", cluster, n))
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func (s *soak) approve(ctx context.Context, h *swarm.Hub, cluster, comment string) {
	now := time.Now().UTC()
	statement, err := fleet.Canonical(fleet.Approval{
		Action: fleet.ActionApply, App: "shop/app0", Approver: "ann@example.com", Comment: comment, NotBefore: now, Expires: now.Add(6 * time.Hour),
		Targets: []fleet.Target{{ClusterUID: "u", Cluster: cluster, To: "sha256:1", Plan: comment}},
	})
	if err != nil {
		panic(err) // a statement of our own always can be written
	}
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = h.Caller().Approve(ask, fleet.SignedApproval{Statement: statement, Signature: "for the spoke to judge"})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.approvals[cluster] = append(s.approvals[cluster], comment)
		s.noted["approve "+comment] = true
	} else {
		s.failed++
	}
}

// report changes an agent's statuses, whether it runs or not.
func (s *soak) report(ctx context.Context, a *swarm.Agent) {
	for n := 1; ctx.Err() == nil; n++ {
		a.Set(status(n%apps, fmt.Sprint(n)))
		pause(ctx, 30*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// check compares what was acknowledged with what there is.
func (s *soak) check(t *testing.T) {
	t.Helper()
	for i, h := range s.hubs {
		err := swarm.Wait(t.Context(), settled, func() error {
			return errors.Join(s.statusesAt(t.Context(), h), s.labelsAt(t.Context(), h))
		})
		if err != nil {
			t.Errorf("hub %d: %v", i+1, err)
		}
	}
	if err := swarm.Wait(t.Context(), settled, s.intentsAtAgents); err != nil {
		t.Error(err)
	}
	err := swarm.Wait(t.Context(), settled, func() error { return s.auditAt(t.Context(), s.hubs[0]) })
	if err != nil {
		t.Error(err)
	}
	n := 0
	for _, all := range s.approvals {
		n += len(all)
	}
	t.Logf("acknowledged: %d changes, %d approvals among them", len(s.noted), n)
	if len(s.labels) != clusters || n == 0 {
		t.Errorf("labels of %d clusters and %d approvals were acknowledged: that shows nothing", len(s.labels), n)
	}
}

// statusesAt: of every app the hub shows what its agent said last.
func (s *soak) statusesAt(ctx context.Context, h *swarm.Hub) error {
	all, err := h.Caller().Apps(ctx, fleet.AppFilter{})
	if err != nil {
		return err
	}
	shown := map[string]string{}
	for _, a := range all {
		shown[a.Cluster+" "+a.App] = a.Message
		if a.Stale {
			err = errors.Join(err, fmt.Errorf("%s is stale", a.Cluster))
		}
	}
	for _, a := range s.agents {
		for _, st := range a.Statuses() {
			if got := shown[a.Name+" "+st.App]; got != st.Message {
				err = errors.Join(err, fmt.Errorf("%s %s: %q is shown, its agent said %q", a.Name, st.App, got, st.Message))
			}
		}
	}
	return err
}

// labelsAt: every label is the one that was acknowledged last, or one that was
// asked for after it.
func (s *soak) labelsAt(ctx context.Context, h *swarm.Hub) error {
	all, err := h.Caller().Clusters(ctx, fleet.ClusterFilter{})
	if err != nil {
		return err
	}
	if len(all) != clusters {
		return fmt.Errorf("%d clusters are there", len(all))
	}
	for _, c := range all {
		var got int
		if _, scanErr := fmt.Sscan(c.Assigned["wave"], &got); scanErr != nil || got < s.labels[c.Cluster] {
			err = errors.Join(err, fmt.Errorf("%s: label %q, %d was acknowledged", c.Cluster, c.Assigned["wave"], s.labels[c.Cluster]))
		}
	}
	return err
}

// intentsAtAgents: what was acknowledged has come to the agents.
func (s *soak) intentsAtAgents() (err error) {
	for _, a := range s.agents {
		in := a.Intent()
		var got int
		if _, scanErr := fmt.Sscan(in.Labels["wave"], &got); scanErr != nil || got < s.labels[a.Name] {
			err = errors.Join(err, fmt.Errorf("the agent of %s has label %q, %d was acknowledged", a.Name, in.Labels["wave"], s.labels[a.Name]))
		}
		has := map[string]bool{}
		for _, signed := range in.Approvals {
			var statement fleet.Approval
			if e := json.Unmarshal(signed.Statement, &statement); e != nil {
				return e
			}
			has[statement.Comment] = true
		}
		for _, comment := range s.approvals[a.Name] {
			if !has[comment] {
				err = errors.Join(err, fmt.Errorf("the agent of %s has not heard of approval %s", a.Name, comment))
			}
		}
	}
	return err
}

// auditAt: every change that was acknowledged is written down.
func (s *soak) auditAt(ctx context.Context, h *swarm.Hub) error {
	written := map[string]bool{}
	f := fleet.EventFilter{Limit: fleet.MaxEvents}
	for {
		page, err := h.Caller().Events(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range page.Items {
			var detail struct {
				Set     map[string]string `json:"set"`
				Comment string            `json:"comment"`
			}
			if len(e.Detail) > 0 {
				if err := json.Unmarshal(e.Detail, &detail); err != nil {
					return fmt.Errorf("event %s: %w", e.ID, err)
				}
			}
			switch e.Action {
			case "label":
				written["label "+e.Cluster+" "+detail.Set["wave"]] = true
			case "approve":
				written["approve "+detail.Comment] = true
			}
		}
		if page.Continue == "" || len(page.Items) == 0 {
			break
		}
		f.Continue = page.Continue
	}
	var missing []string
	for what := range s.noted {
		if !written[what] {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("of %d changes %d are not in the audit log: %s", len(s.noted), len(missing), strings.Join(missing[:min(5, len(missing))], "; "))
	}
	return nil
}
