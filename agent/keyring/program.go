package keyring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Clouds asks key services.
type Clouds interface {
	// Decrypt decrypts a data key. A *unit.KeysAway error says that it may go
	// better later; any other one that the data key is not of this key.
	Decrypt(ctx context.Context, k pipe.Key) ([]byte, error)
}

// ProgramName is the program that asks key services. It lies beside the agent's.
const ProgramName = "capstan-keys"

// ProgramConfig says how capstan-keys is run. Every zero value has a meaning.
type ProgramConfig struct {
	Command   []string      // its command line; none: ProgramName, beside this program
	Timeout   time.Duration // of one request; 0: 20 seconds
	IdleAfter time.Duration // it is ended when nothing was asked for so long; 0: after 30 seconds
	Environ   []string      // of which it gets what key services' clients read; nil: this program's own
}

// How long capstan-keys has for what it does on its own: a machine may be busy.
const (
	startWithin  = 30 * time.Second
	answerWithin = 5 * time.Second // after a request's time is over
	endWithin    = 2 * time.Second
)

// Program runs capstan-keys while there is something to ask. It is safe for
// concurrent use.
type Program struct {
	cfg    ProgramConfig
	places chan struct{} // one for each request at work

	mu      sync.Mutex
	now     *process // nil: none runs
	last    uint64
	waiting int
	idle    *time.Timer
	closed  bool
}

var _ Clouds = (*Program)(nil)

// NewProgram finds the program. It is not started before there is something to ask.
func NewProgram(cfg ProgramConfig) (*Program, error) {
	if len(cfg.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		program := filepath.Join(filepath.Dir(self), ProgramName)
		if _, err := os.Stat(program); err != nil {
			return nil, fleet.WithHint(fmt.Errorf("decryption.kms: the program that asks key services: %w", err), "put "+ProgramName+" of the same release beside "+filepath.Base(self))
		}
		cfg.Command = []string{program}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 20 * time.Second
	}
	if cfg.IdleAfter <= 0 {
		cfg.IdleAfter = 30 * time.Second
	}
	if cfg.Environ == nil {
		cfg.Environ = os.Environ()
	}
	cfg.Environ = environment(cfg.Environ)
	return &Program{cfg: cfg, places: make(chan struct{}, pipe.MaxRequests)}, nil
}

// Decrypt implements Clouds.
func (p *Program) Decrypt(ctx context.Context, k pipe.Key) ([]byte, error) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return nil, &unit.KeysAway{Err: ctx.Err()}
	}
	r, id, err := p.join()
	if err != nil {
		return nil, &unit.KeysAway{Err: err}
	}
	defer p.leave(r)
	a, err := r.ask(ctx, pipe.Request{ID: id, Timeout: p.cfg.Timeout, Key: k})
	switch {
	case err != nil:
		return nil, &unit.KeysAway{Err: fmt.Errorf("%s: %w", k, err)}
	case a.Message != "" && a.Final:
		return nil, fleet.WithHint(fleet.Invalid("%s: %s", k, a.Message), a.Hint)
	case a.Message != "":
		return nil, &unit.KeysAway{Err: fleet.WithHint(fleet.Unavailable("%s: %s", k, a.Message), a.Hint)}
	case len(a.DataKey) == 0 || len(a.DataKey) > pipe.MaxDataKey:
		return nil, fleet.WithHint(fleet.Invalid("%s: what it decrypts to is no data key", k), "encrypt the file anew")
	}
	return a.DataKey, nil
}

// join gives the process that runs, or starts one.
func (p *Program) join() (*process, uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, 0, errors.New("the agent is being stopped")
	}
	if p.now != nil && p.now.over() {
		p.now = nil
	}
	if p.now == nil {
		r, err := start(p.cfg)
		if err != nil {
			return nil, 0, fleet.WithHint(fmt.Errorf("%s did not start: %w", ProgramName, err), "install capstan-agent and "+ProgramName+" of one release")
		}
		p.now = r
	}
	if p.idle != nil {
		p.idle.Stop()
	}
	p.waiting++
	p.last++
	return p.now, p.last, nil
}

// leave ends the process in a while, unless something is asked again.
func (p *Program) leave(r *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting--; p.waiting > 0 || p.now != r {
		return
	}
	asked := p.last
	p.idle = time.AfterFunc(p.cfg.IdleAfter, func() {
		p.mu.Lock()
		idle := p.now == r && p.last == asked
		if idle {
			p.now = nil
		}
		p.mu.Unlock()
		if idle {
			r.end()
		}
	})
}

// Close ends the process. Who waits for it is told that keys are away.
func (p *Program) Close() {
	p.mu.Lock()
	r := p.now
	p.now, p.closed = nil, true
	if p.idle != nil {
		p.idle.Stop()
	}
	p.mu.Unlock()
	if r != nil {
		r.end()
	}
}

// process is one capstan-keys, as its parent sees it.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{} // closed when it is gone

	writing sync.Mutex
	mu      sync.Mutex
	asked   map[uint64]chan pipe.Answer
}

func start(cfg ProgramConfig) (*process, error) {
	cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...) //nolint:gosec,noctx // our own program; its life is longer than a request's
	cmd.Env, cmd.Dir = cfg.Environ, "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &process{cmd: cmd, in: in, ended: make(chan struct{}), asked: map[uint64]chan pipe.Answer{}}
	from := bufio.NewReader(out)
	kill := time.AfterFunc(startWithin, r.kill)
	defer kill.Stop()
	var hello pipe.Hello
	err = pipe.Read(from, &hello)
	if err == nil && hello.Version != pipe.Version {
		err = fleet.Invalid("it speaks version %d, and this agent %d", hello.Version, pipe.Version)
	}
	if err != nil {
		r.kill()
		_ = cmd.Wait()
		return nil, err
	}
	go r.listen(from)
	return r, nil
}

// listen passes answers on until the process is gone. What does not keep to what
// was agreed is ended.
func (r *process) listen(from io.Reader) {
	defer close(r.ended)
	for {
		var a pipe.Answer
		if err := pipe.Read(from, &a); err != nil {
			break
		}
		r.mu.Lock()
		to := r.asked[a.ID]
		delete(r.asked, a.ID)
		r.mu.Unlock()
		if to != nil { // otherwise nobody waits for it any more
			to <- a
		}
	}
	_ = r.in.Close()
	kill := time.AfterFunc(endWithin, r.kill)
	defer kill.Stop()
	_, _ = io.Copy(io.Discard, from)
	_ = r.cmd.Wait()
}

var (
	errEnded = errors.New(ProgramName + " ended by itself")
	errLate  = errors.New("no answer in time")
)

func (r *process) ask(ctx context.Context, q pipe.Request) (pipe.Answer, error) {
	answer := make(chan pipe.Answer, 1)
	r.mu.Lock()
	r.asked[q.ID] = answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.asked, q.ID)
		r.mu.Unlock()
	}()
	late := time.AfterFunc(q.Timeout+answerWithin, r.kill)
	defer late.Stop()
	r.writing.Lock()
	err := pipe.Write(r.in, q)
	r.writing.Unlock()
	if errors.Is(err, pipe.ErrFrame) {
		return pipe.Answer{}, err
	}
	select { // a write that failed is of a process that is about to be gone
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return pipe.Answer{}, ctx.Err()
	case <-r.ended:
	}
	if !late.Stop() {
		return pipe.Answer{}, errLate
	}
	return pipe.Answer{}, errEnded
}

func (r *process) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (r *process) kill() { _ = r.cmd.Process.Kill() }

// end lets a process go: it leaves when its input ends, or is made to.
func (r *process) end() {
	_ = r.in.Close()
	kill := time.AfterFunc(endWithin, r.kill)
	defer kill.Stop()
	<-r.ended
}

// What key services' clients read of the environment: who one is, where they
// are, and by which way. PATH is none of it: they would run other programs.
var (
	passed        = []string{"HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GCE_METADATA_HOST", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"}
	passedPrefix  = []string{"AWS_", "GOOGLE_", "CLOUDSDK_", "AZURE_", "VAULT_", "SOPS_GCP_KMS_"}
	homeOfNowhere = "HOME=/" // a client that finds none looks for it with a shell
)

// environment is what of an environment capstan-keys gets.
func environment(all []string) []string {
	kept := []string{homeOfNowhere}
	for _, e := range all {
		name, _, _ := strings.Cut(e, "=")
		name = strings.ToUpper(name)
		ok := false
		for _, p := range passed {
			ok = ok || name == p
		}
		for _, p := range passedPrefix {
			ok = ok || strings.HasPrefix(name, p)
		}
		if ok {
			kept = append(kept, e)
		}
	}
	return kept
}
