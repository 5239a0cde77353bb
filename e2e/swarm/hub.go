package swarm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/process"
	"github.com/capstan-gitops/capstan/pkg/client"
)

// HubConfig says how a hub is started.
type HubConfig struct {
	Program string   // capstan-hub
	Dir     string   // the hub's data directory, and its log beside it
	Args    []string // more flags
	// Callers is how many administrators there are, each with a share of what the
	// hub answers in a second; 0: the one that the hub makes.
	Callers int
}

// Hub is a capstan-hub process with its own addresses, which stay when it is
// started anew.
type Hub struct {
	URL    string
	NATS   string // host:port for agents
	Token  string // of an administrator
	Client *client.Client

	dir     string
	callers []*client.Client
	asked   atomic.Int64
	spec    process.Spec
	proc    *process.Process
}

// NewHub chooses a hub's addresses on loopback. Nothing runs yet.
func NewHub(cfg HubConfig) (*Hub, error) {
	var ports [2]int
	for i := range ports {
		p, err := cluster.FreePort()
		if err != nil {
			return nil, err
		}
		ports[i] = p
	}
	h := &Hub{URL: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), NATS: fmt.Sprintf("127.0.0.1:%d", ports[1]), dir: cfg.Dir}
	h.spec = process.Spec{
		Path: cfg.Program,
		Args: append([]string{"--data-dir", cfg.Dir, "--listen", strings.TrimPrefix(h.URL, "http://"), "--nats-listen", h.NATS}, cfg.Args...),
		Log:  cfg.Dir + ".log",
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
		return nil, err
	}
	return h, h.invite(cfg)
}

// invite makes the callers' tokens.
func (h *Hub) invite(cfg HubConfig) error {
	if cfg.Callers == 0 {
		return nil
	}
	var lines strings.Builder
	for i := range cfg.Callers {
		token := rand.Text()
		fmt.Fprintf(&lines, "caller-%d admin sha256:%x\n", i, sha256.Sum256([]byte(token)))
		c, err := client.New(client.Config{URL: h.URL, Token: token})
		if err != nil {
			return err
		}
		h.Token, h.callers = token, append(h.callers, c)
	}
	file := cfg.Dir + ".tokens"
	h.Client = h.callers[0]
	h.spec.Args = append(h.spec.Args, "--token-file", file)
	return os.WriteFile(file, []byte(lines.String()), 0o600)
}

// Caller is the client of one of the callers in turn.
func (h *Hub) Caller() *client.Client {
	if len(h.callers) == 0 {
		return h.Client
	}
	return h.callers[int(h.asked.Add(1))%len(h.callers)]
}

const (
	startWithin = 2 * time.Minute
	endWithin   = 20 * time.Second
	pollEvery   = 20 * time.Millisecond
)

// Start starts the hub, anew if it was killed, and returns when it is ready.
func (h *Hub) Start(ctx context.Context) (err error) {
	if h.proc, err = process.Start(h.spec); err != nil {
		return err
	}
	return Wait(ctx, startWithin, func() error {
		select {
		case <-h.proc.Done():
			return fmt.Errorf("%w: the hub ended: %w\n%s", errHopeless, h.proc.Err(), h.proc.LogTail())
		default:
		}
		return h.answers(ctx)
	})
}

func (h *Hub) answers(ctx context.Context) error {
	if err := Ready(ctx, h.URL); err != nil || h.Client != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(h.dir, "admin.token"))
	if err != nil {
		return err
	}
	h.Token = strings.TrimSpace(string(token))
	h.Client, err = client.New(client.Config{URL: h.URL, Token: h.Token})
	return err
}

// PID of the hub's process.
func (h *Hub) PID() int { return h.proc.PID() }

// Log is the file that the hub's log goes to.
func (h *Hub) Log() string { return h.spec.Log }

// Kill ends the hub at once, as a crash would.
func (h *Hub) Kill() error { return h.proc.Kill() }

// Close ends the hub in good order.
func (h *Hub) Close() error {
	if h.proc == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	return h.proc.Terminate(ctx)
}

// errHopeless ends a Wait early.
var errHopeless = errors.New("no use waiting")

// Wait calls ready until it returns nil, and returns its last error when time is up.
func Wait(ctx context.Context, within time.Duration, ready func() error) error {
	end := time.NewTimer(within)
	defer end.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil || errors.Is(err, errHopeless) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-end.C:
			return fmt.Errorf("not within %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// atOnce is how many agents enrol at the same time.
const atOnce = 32

// Enrol has every agent get its credential from the hub, and ends it again.
func Enrol(ctx context.Context, h *Hub, agents []*Agent) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, a := range agents {
		g.Go(func() error {
			grant, err := h.Caller().Join(ctx, a.Name, 0)
			if err != nil {
				return fmt.Errorf("join %s: %w", a.Name, err)
			}
			if err := a.Start(grant.Token); err != nil {
				return err
			}
			err = Wait(ctx, startWithin, func() error {
				if !a.Enrolled() {
					return fmt.Errorf("%s is not enrolled", a.Name)
				}
				return nil
			})
			return errors.Join(err, a.Kill())
		})
	}
	return g.Wait()
}
