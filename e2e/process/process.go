// Package process starts child processes that cannot outlive their parent.
//
// Linux sends a child its parent-death signal when the *thread* that forked it
// ends, and Go ends threads as it likes. So one thread, kept for that alone,
// forks every child: it lives as long as the program, however the program ends.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// Spec says what to run.
type Spec struct {
	Path string   // the program
	Args []string // without the program's name
	Dir  string   // working directory; empty: the parent's
	Env  []string // empty: the parent's
	Log  string   // file that stdout and stderr are appended to; empty: discarded
}

// Process is a running child, alone in a session of its own: a Ctrl-C at the
// terminal reaches the parent only, which then ends its children in order.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // why it ended; valid when done is closed
}

// Start runs spec. The child is killed when the parent ends for any reason.
func Start(spec Spec) (*Process, error) {
	//nolint:noctx // a child outlives the call that starts it; Kill and Terminate end it
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir, cmd.Env = spec.Dir, spec.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if spec.Log != "" {
		f, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close() // the child has its own descriptor
		cmd.Stdout, cmd.Stderr = f, f
	}
	if err := onSpawner(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(spec.Path), err)
	}
	p := &Process{cmd: cmd, log: spec.Log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

var spawner = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go spawn(calls)
	return calls
})

func spawn(calls <-chan func()) {
	runtime.LockOSThread() // never unlocked: see the package comment
	for call := range calls {
		call()
	}
}

func onSpawner(f func() error) error {
	result := make(chan error)
	spawner() <- func() { result <- f() }
	return <-result
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the child ended: nil while it runs or when it exited with 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop freezes the child and what it started: it keeps its connections and
// answers nothing.
func (p *Process) Stop() error { return p.signal(syscall.SIGSTOP) }

// Continue thaws a stopped child.
func (p *Process) Continue() error { return p.signal(syscall.SIGCONT) }

// Kill ends the child and what it started at once, and waits for it.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Terminate asks the child to end and waits; it is killed when ctx ends first.
// What the child had started and left behind is killed as well.
func (p *Process) Terminate(ctx context.Context) error {
	err := p.signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		if err := syscall.Kill(-p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s did not end when asked: %w", filepath.Base(p.cmd.Path), ctx.Err()), p.Kill())
	}
}

// signal goes to the child's whole session. A child that has been waited for
// is never signalled: its number may belong to somebody else by then.
func (p *Process) signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	err := syscall.Kill(-p.PID(), s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// LogTail returns the end of what the child wrote, for an error message.
func (p *Process) LogTail() string {
	const most = 2000
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(b)
}
