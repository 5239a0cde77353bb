// Package swarm runs many agents in one process that have no cluster. The link
// is the real one, agent/uplink with its enrolment, epochs and retries; what an
// agent would do with it is left out.
package swarm

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/agent/uplink"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Agent is one simulated agent. What it keeps survives Kill, as a Secret at the
// spoke would.
type Agent struct {
	Name string
	// Declared are the cluster's own labels; the keys in Assignable may be set
	// from the hub. They are read when the agent starts.
	Declared   map[string]string
	Assignable []string
	// Beat is the time between heartbeats; 0: the agent's own default.
	Beat time.Duration
	// Took is told of each intent, in order. Nil: nobody is.
	Took func(in fleet.Intent)
	Log  *slog.Logger

	mu       sync.Mutex
	kept     uplink.Kept
	version  int
	statuses map[fleet.AppName]fleet.AppStatus
	order    []fleet.AppName
	intent   fleet.Intent
	greeted  int

	up     *uplink.Uplink
	cancel context.CancelFunc
	ended  chan error
}

// Start runs the agent until Kill. The token is used once.
func (a *Agent) Start(token string) error {
	up, err := uplink.New(uplink.Config{Token: token, Cluster: a.Name, HeartbeatEvery: a.Beat, Log: a.Log}, (*spoke)(a), a.vault())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	a.mu.Lock()
	a.up, a.cancel, a.ended = up, cancel, ended
	a.mu.Unlock()
	go func() { ended <- up.Run(ctx) }()
	return nil
}

// Kill ends the agent where it is: what was not acknowledged is not waited for.
func (a *Agent) Kill() error {
	a.mu.Lock()
	cancel, ended := a.cancel, a.ended
	a.up, a.cancel = nil, nil
	a.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	if err := <-ended; err != nil {
		return fmt.Errorf("agent of %s: %w", a.Name, err)
	}
	return nil
}

// Set changes the status of an app and reports it.
func (a *Agent) Set(s fleet.AppStatus) {
	a.mu.Lock()
	name := s.Name()
	if a.statuses == nil {
		a.statuses = make(map[fleet.AppName]fleet.AppStatus)
	}
	if _, known := a.statuses[name]; !known {
		a.order = append(a.order, name)
	}
	a.statuses[name] = s
	up := a.up
	a.mu.Unlock()
	if up != nil {
		up.Changed(s)
	}
}

// Enrolled tells whether the hub has given the agent a credential.
func (a *Agent) Enrolled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept.JWT != ""
}

// Intent is the last one the agent took.
func (a *Agent) Intent() fleet.Intent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.intent
}

// Trusts counts the CAs by which the agent trusts the hub.
func (a *Agent) Trusts() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Count(a.kept.CA, "BEGIN CERTIFICATE")
}

// Greetings counts the connections on which the hub has answered so far.
func (a *Agent) Greetings() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.greeted
}

// Settled tells whether the hub has acknowledged all that the agent has to say.
func (a *Agent) Settled() bool {
	a.mu.Lock()
	up := a.up
	a.mu.Unlock()
	return up != nil && up.Settled()
}

// Statuses are what the agent says of its apps.
func (a *Agent) Statuses() []fleet.AppStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]fleet.AppStatus, 0, len(a.order))
	for _, name := range a.order {
		out = append(out, a.statuses[name])
	}
	return out
}

// spoke is the agent as the uplink sees it.
type spoke Agent

var _ uplink.Spoke = (*spoke)(nil)

func (s *spoke) Report() fleet.ClusterReport {
	return fleet.ClusterReport{
		UID: "00000000-0000-4000-8000-" + s.Name, AgentVersion: "v0.0.0-swarm", KubernetesVersion: "v1.37.2",
		Declared: s.Declared, Assignable: s.Assignable, Head: "main@sha1:0123456789abcdef0123456789abcdef01234567",
	}
}

func (s *spoke) Statuses() []fleet.AppStatus {
	s.mu.Lock()
	s.greeted++
	s.mu.Unlock()
	return (*Agent)(s).Statuses()
}

func (s *spoke) TakeIntent(_ context.Context, in fleet.Intent) error {
	s.mu.Lock()
	s.intent = in
	s.mu.Unlock()
	if s.Took != nil {
		s.Took(in)
	}
	return nil
}

func (s *spoke) Plan(app fleet.AppName) (fleet.SignedPlan, error) {
	return fleet.SignedPlan{}, fleet.NotFound("nothing waits for %s", app)
}

func (s *spoke) History(fleet.AppName) ([]fleet.HistoryEntry, error) { return nil, nil }
func (s *spoke) Tree(fleet.AppName) ([]fleet.Object, error)          { return nil, nil }
func (s *spoke) GitPushed(fleet.Push)                                {}

// vault gives what is kept to one process of the agent: another's writes end it.
func (a *Agent) vault() uplink.Vault { return &vault{agent: a} }

type vault struct {
	agent *Agent
	seen  int
}

func (v *vault) Load(context.Context) (uplink.Kept, error) {
	v.agent.mu.Lock()
	defer v.agent.mu.Unlock()
	v.seen = v.agent.version
	return v.agent.kept, nil
}

func (v *vault) Save(_ context.Context, k uplink.Kept) error {
	v.agent.mu.Lock()
	defer v.agent.mu.Unlock()
	if v.seen != v.agent.version {
		return fleet.Conflict("another process of the agent of %s wrote", v.agent.Name)
	}
	v.agent.version++
	v.seen, v.agent.kept = v.agent.version, k
	return nil
}
