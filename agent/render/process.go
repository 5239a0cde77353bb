package render

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// process is one worker, as its parent sees it.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader

	unconfined string // why the worker runs without a filter; "": it has one
	peak       int64
	used       time.Time
	spent      bool // must not be used again
}

// startTimeout is long: a machine may be busy.
const startTimeout = 30 * time.Second

func startProcess(argv []string, memory int64) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // our own program; its life is longer than a request's
	cmd.Env = []string{}                      // not nil: nothing of ours is for it
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("render worker: %w", err)
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 64<<10)}
	kill := time.AfterFunc(startTimeout, p.kill)
	defer kill.Stop()
	if err := p.greet(memory); err != nil {
		p.kill()
		p.end()
		return nil, fmt.Errorf("render worker: it did not start: %w", err)
	}
	return p, nil
}

func (p *process) greet(memory int64) error {
	if err := pipe.WriteFrame(p.in, pipe.KindSetup, pipe.Setup{Memory: uint64(memory)}.Encode()); err != nil {
		return err
	}
	k, b, err := pipe.ReadFrame(p.out)
	if err != nil {
		return err
	}
	if k != pipe.KindHello {
		return pipe.ErrFrame
	}
	hello, err := pipe.DecodeHello(b)
	if err == nil && hello.Renderer != pipe.Version {
		err = fleet.WithHint(fleet.Invalid("it renders with %q, and this agent with %q", hello.Renderer, pipe.Version), "install capstan-agent and capstan-render of one release")
	}
	p.unconfined = hello.Unconfined
	return err
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// end lets a worker go: it leaves when its input ends, or is made to.
func (p *process) end() {
	_ = p.in.Close()
	kill := time.AfterFunc(2*time.Second, p.kill)
	defer kill.Stop()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait()
}

// limits of one render.
type limits struct {
	memory  int64
	timeout time.Duration
}

// errUsed: a worker asks for a key, and rendered something else before, which
// may have taken it over. A fresh one is to be asked.
var errUsed = errors.New("the worker was used before")

// A watchdog's verdicts.
var (
	errMemory  = errors.New("over its memory limit")
	errTimeout = errors.New("over its time limit")
)

// render runs one job. Afterwards p.spent tells whether the worker is done for.
func (p *process) render(ctx context.Context, q unit.RenderRequest, l limits, charts Charts) (unit.Rendered, error) {
	s := server{tree: q.Snapshot.Tree, charts: charts, access: q.Access, keys: q.Keys, used: !p.used.IsZero()}
	if q.Helm != nil && q.Helm.Chart != nil {
		s.repository = q.Helm.Chart.Repository
	}
	var verdict atomic.Pointer[error]
	stop, watching := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watching)
		if err := p.watch(ctx, l, &s, stop); err != nil {
			verdict.Store(&err)
			p.kill()
		}
	}()
	o, err := p.converse(ctx, &s, pipe.Job{Root: q.Snapshot.Root, Path: q.Path, Facts: q.Facts, Decrypt: q.Keys != nil, Directory: q.Directory, Release: q.Release, Helm: q.Helm})
	close(stop)
	<-watching
	p.used = time.Now()
	p.peak = max(p.peak, peakRSS(p.cmd.Process.Pid))
	if v := verdict.Load(); v != nil && err != nil {
		p.spent = true
		return p.condemned(*v, q, l)
	}
	switch {
	case errors.Is(err, errUsed):
		p.spent = true
		return unit.Rendered{}, err
	case err != nil && s.err != nil:
		p.spent = true
		return unit.Rendered{}, s.failure(q)
	case err != nil:
		p.spent = true
		return p.condemned(err, q, l)
	case verdict.Load() != nil:
		p.spent = true // killed after it had answered
	}
	if s.keyQuestions > 0 {
		p.spent = true // what it decrypted is in its memory still
	}
	if bad, ok := errors.AsType[*unit.ChartError](s.err); ok {
		return unit.Rendered{}, bad
	}
	if s.err != nil {
		return unit.Rendered{}, s.failure(q)
	}
	if s.keyQuestions > 0 {
		o.Reads.Keys = q.Keys.Version()
	}
	if o.Failure != nil {
		return unit.Rendered{}, s.whyFailed(q, o)
	}
	return unit.Rendered{Path: o.Path, Objects: o.Objects, Reads: o.Reads}, nil
}

// whyFailed is the error of a render that the worker gave up.
func (s *server) whyFailed(q unit.RenderRequest, o pipe.Outcome) error {
	f := o.Failure
	switch {
	case f.Again && s.keysAway != nil:
		s.err = &unit.KeysAway{Err: fleet.WithHint(errors.New(f.Message), f.Hint)}
		return s.failure(q)
	case f.Again:
		return &unit.ChartError{Message: f.Message, Hint: f.Hint}
	}
	return &unit.RenderError{File: f.File, Line: f.Line, Message: f.Message, Hint: f.Hint, Reads: o.Reads}
}

// watch returns why the worker must go, or nil when the render is over.
// What it waits for others is not its own time.
func (p *process) watch(ctx context.Context, l limits, s *server, stop <-chan struct{}) error {
	var granted time.Duration
	deadline := time.NewTimer(l.timeout)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			more := s.away() - granted
			if more <= 0 {
				return errTimeout
			}
			granted += more
			deadline.Reset(more)
		case <-look.C:
			rss := residentSet(p.cmd.Process.Pid)
			p.peak = max(p.peak, rss)
			if rss > l.memory {
				return errMemory
			}
		}
	}
}

// crash is a worker's end that nobody here wanted. The repository may be at
// fault, or somebody else ended the process.
type crash struct{ error }

// condemned is the error of a render whose worker did not live to answer.
func (p *process) condemned(why error, q unit.RenderRequest, l limits) (unit.Rendered, error) {
	bad := &unit.RenderError{Reads: wholeTree(q), Ended: true}
	const hint = "look for bases that include each other many times, for very large files, or for YAML aliases of aliases"
	switch {
	case errors.Is(why, context.Canceled), errors.Is(why, context.DeadlineExceeded):
		return unit.Rendered{}, why
	case errors.Is(why, errTimeout):
		bad.Message, bad.Hint = fmt.Sprintf("path %s: rendering took more than %s", q.Path, l.timeout), hint
	case errors.Is(why, errMemory):
		bad.Message, bad.Hint = fmt.Sprintf("path %s: rendering needs more than %d MiB of memory", q.Path, l.memory>>20), hint
	default:
		bad.Message, bad.Hint = fmt.Sprintf("path %s: rendering crashed", q.Path), hint
		return unit.Rendered{}, &crash{bad}
	}
	return unit.Rendered{}, bad
}

// wholeTree is the read-set of a render nobody can ask what it read: any commit
// may mend it.
func wholeTree(q unit.RenderRequest) unit.ReadSet {
	return unit.ReadSet{
		Paths:  map[string]unit.Read{"": {Kind: unit.ReadList, Mode: unit.ModeDir, Hash: q.Snapshot.Root}},
		Labels: q.Facts.Labels, Cluster: q.Facts.Cluster, Renderer: pipe.Version,
		Kubernetes: q.Facts.Kubernetes, Values: q.Facts.Values, Keys: q.Facts.Keys,
	}
}
