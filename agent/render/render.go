package render

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Config of a Renderer. Every zero value has a meaning.
type Config struct {
	Worker      []string      // a worker's command line; none: WorkerProgram, beside this program
	MemoryLimit int64         // bytes a worker may use; 0: 256 MiB
	Timeout     time.Duration // of one render; 0: a minute
	IdleAfter   time.Duration // a worker without work is ended; 0: after 5 seconds
	Workers     int           // at the same time; 0: one
	Patience    time.Duration // one more is started for who waited so long for a worker; 0: after 2 seconds
	Log         *slog.Logger  // nil: none
	Charts      Charts        // nil: charts are rendered from the repository alone
}

// Charts fetches what a render needs of a place where charts are kept. What it
// gives is not looked at in this process.
type Charts interface {
	// Fetch gets one thing. repository is the place that the App itself names, or
	// "", and access is for that place alone. The error is a *unit.ChartError.
	Fetch(ctx context.Context, f unit.ChartFile, repository string, access unit.ChartAccess) ([]byte, error)
}

func (c *Config) setDefaults() error {
	if len(c.Worker) == 0 {
		program, err := besides(WorkerProgram)
		if err != nil {
			return err
		}
		c.Worker = []string{program}
	}
	if c.MemoryLimit <= 0 {
		c.MemoryLimit = 256 << 20
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	if c.IdleAfter <= 0 {
		c.IdleAfter = 5 * time.Second
	}
	if c.Workers <= 0 {
		c.Workers = 1
	}
	if c.Patience <= 0 {
		c.Patience = 2 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// WorkerProgram is the worker's program. It lies beside the agent's.
const WorkerProgram = "capstan-render"

// besides finds a program in the directory of this one.
func besides(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(program); err != nil {
		return "", fleet.WithHint(fmt.Errorf("the render worker's program: %w", err), "put "+name+" of the same release beside "+filepath.Base(self))
	}
	return program, nil
}

// Stats count what a Renderer did.
type Stats struct {
	Renders int64 // finished, well or not
	Starts  int64 // of workers
	PeakRSS int64 // bytes, of the largest worker so far; 0 where it can't be known
}

// Renderer renders in workers. It is safe for concurrent use: requests wait for
// a free worker.
type Renderer struct {
	cfg     Config
	places  chan *place
	spare   chan *place // for those who wait for a render that takes its time, or hangs
	closing chan struct{}
	once    sync.Once

	renders, starts, peak atomic.Int64
	unconfined            sync.Once
}

// place is where one worker at a time runs, or none.
type place struct {
	mu     sync.Mutex // held while the worker works, or is ended
	worker *process
	idle   *time.Timer
}

// New makes a Renderer. No worker is started before there is work.
func New(cfg Config) (*Renderer, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	r := &Renderer{cfg: cfg, places: make(chan *place, cfg.Workers), spare: make(chan *place, 1), closing: make(chan struct{})}
	for range cfg.Workers {
		r.places <- &place{}
	}
	r.spare <- &place{}
	return r, nil
}

// Version says what renders, for read-sets.
func (r *Renderer) Version() string { return pipe.Version }

// Stats tells what was done so far.
func (r *Renderer) Stats() Stats {
	return Stats{Renders: r.renders.Load(), Starts: r.starts.Load(), PeakRSS: r.peak.Load()}
}

var errClosed = errors.New("the renderer is closed")

// Render renders one path. The error is a *unit.RenderError where the
// repository is at fault; any other says that rendering itself did not work, or
// that ctx ended.
func (r *Renderer) Render(ctx context.Context, q unit.RenderRequest) (unit.Rendered, error) {
	p, giveBack, err := r.place(ctx)
	if err != nil {
		return unit.Rendered{}, err
	}
	defer giveBack()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle != nil {
		p.idle.Stop()
	}
	return r.renderAt(ctx, p, q)
}

// place waits for one. Who waits long gets the spare one if nobody has it: a render that
// is slow, or waits for a server that hangs, then delays no other.
func (r *Renderer) place(ctx context.Context) (_ *place, giveBack func(), err error) {
	late := time.NewTimer(r.cfg.Patience)
	defer late.Stop()
	var spare chan *place // nil, so never chosen, until then
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-r.closing:
			return nil, nil, errClosed
		case p := <-r.places:
			return p, func() { r.places <- p }, nil
		case p := <-spare:
			return p, func() { r.spare <- p }, nil
		case <-late.C:
			spare = r.spare
		}
	}
}

// renderAt tries a second time when a worker ended by itself: the machine may
// have ended it. What crashes a fresh worker too is the repository's fault.
func (r *Renderer) renderAt(ctx context.Context, p *place, q unit.RenderRequest) (unit.Rendered, error) {
	defer r.renders.Add(1)
	rendered, err := r.tryAt(ctx, p, q)
	if errors.Is(err, errUsed) {
		rendered, err = r.tryAt(ctx, p, q)
	}
	var c *crash
	if errors.As(err, &c) {
		r.cfg.Log.Warn("a render worker ended by itself", "path", q.Path)
		rendered, err = r.tryAt(ctx, p, q)
	}
	if errors.As(err, &c) {
		err = c.error
	}
	return rendered, err
}

func (r *Renderer) tryAt(ctx context.Context, p *place, q unit.RenderRequest) (unit.Rendered, error) {
	if err := ctx.Err(); err != nil {
		return unit.Rendered{}, err
	}
	if p.worker == nil {
		w, err := r.start()
		if err != nil {
			return unit.Rendered{}, err
		}
		p.worker = w
	}
	rendered, err := p.worker.render(ctx, q, limits{memory: r.cfg.MemoryLimit, timeout: r.cfg.Timeout}, r.cfg.Charts)
	r.sawPeak(p.worker.peak)
	if p.worker.spent {
		p.worker.end()
		p.worker = nil
		return rendered, err
	}
	w := p.worker
	p.idle = time.AfterFunc(r.cfg.IdleAfter, func() { p.endIdle(w, r.cfg.IdleAfter) })
	return rendered, err
}

// endIdle ends a worker unless there is work again.
func (p *place) endIdle(w *process, idle time.Duration) {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if p.worker == w && time.Since(w.used) >= idle {
		w.end()
		p.worker = nil
	}
}

func (r *Renderer) start() (*process, error) {
	w, err := startProcess(r.cfg.Worker, r.cfg.MemoryLimit)
	if err != nil {
		return nil, err
	}
	r.starts.Add(1)
	if w.unconfined != "" {
		r.unconfined.Do(func() {
			r.cfg.Log.Warn("render workers run without a system call filter", "reason", w.unconfined)
		})
	}
	return w, nil
}

func (r *Renderer) sawPeak(rss int64) {
	for {
		old := r.peak.Load()
		if rss <= old || r.peak.CompareAndSwap(old, rss) {
			return
		}
	}
}

// Close waits for renders at work and ends the workers.
func (r *Renderer) Close() error {
	r.once.Do(func() {
		close(r.closing)
		for range r.cfg.Workers {
			(<-r.places).close()
		}
		(<-r.spare).close()
	})
	return nil
}

func (p *place) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle != nil {
		p.idle.Stop()
	}
	if p.worker != nil {
		p.worker.end()
		p.worker = nil
	}
}
