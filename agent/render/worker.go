package render

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// WorkerArg is the argument that makes the agent's binary a worker.
const WorkerArg = "render-worker"

// WorkerMain is a worker's whole life: it confines itself, then renders what it
// is asked to until in ends, which is when its parent wants it gone or is gone.
func WorkerMain(in io.Reader, out io.Writer) error {
	confined := confine()
	os.Stdout = os.Stderr // what kustomize prints is no frame
	debug.SetMaxStack(64 << 20)
	network := refuseNetwork()

	w := &worker{out: out, frames: make(chan frame)}
	go w.read(bufio.NewReaderSize(in, 64<<10))
	first, err := w.next(kindSetup)
	if err != nil {
		return endOfInput(err)
	}
	s, err := decodeSetup(first)
	if err != nil {
		return err
	}
	limitMemory(s.memory)
	if err := writeFrame(out, kindHello, hello(confined)); err != nil {
		return err
	}
	w.tree = newRemoteTree(w)
	for {
		b, err := w.next(kindJob)
		if err != nil {
			return endOfInput(err)
		}
		j, err := decodeJob(b)
		if err != nil {
			return err
		}
		w.busy.Store(true)
		o, err := build(w.tree, network, j)
		w.busy.Store(false)
		if err != nil {
			return err
		}
		if err := writeFrame(out, kindOutcome, o.encode()); err != nil {
			return err
		}
	}
}

// hello says why the worker could not be confined, or nothing.
func hello(confined error) []byte {
	var e encoder
	if confined != nil {
		e.string(confined.Error())
	} else {
		e.string("")
	}
	return e.b
}

// limitMemory makes the runtime try hard before the parent and the kernel do
// what they must.
func limitMemory(limit uint64) {
	debug.SetGCPercent(200) // a burst is short, and its memory is given back whole
	debug.SetMemoryLimit(int64(limit / 4 * 3))
	limitResources(limit)
}

func endOfInput(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

type frame struct {
	kind kind
	body []byte
	err  error
}

type worker struct {
	out    io.Writer
	frames chan frame
	busy   atomic.Bool
	tree   *remoteTree
}

// read passes frames on. A worker that is at work when its input ends has
// nobody to work for, and kustomize can't be told to stop: the process ends.
func (w *worker) read(in io.Reader) {
	for {
		k, body, err := readFrame(in)
		if err != nil && w.busy.Load() {
			os.Exit(1)
		}
		w.frames <- frame{k, body, err}
		if err != nil {
			return
		}
	}
}

func (w *worker) next(want kind) ([]byte, error) {
	f := <-w.frames
	if f.err == nil && f.kind != want {
		f.err = fmt.Errorf("%w: kind %d where %d is due", errFrame, f.kind, want)
	}
	return f.body, f.err
}

// ask sends a question to the parent and waits for the answer.
func (w *worker) ask(k kind, question []byte) (*decoder, status, error) {
	if err := writeFrame(w.out, k, question); err != nil {
		return nil, 0, err
	}
	b, err := w.next(kindAnswer)
	if err != nil {
		return nil, 0, err
	}
	d := &decoder{b: b}
	return d, status(d.uint()), d.err
}

// cacheBytes bounds what is kept between the renders of a burst: they share
// bases, and an object's hash is its content.
const cacheBytes = 32 << 20

// remoteTree reads through the parent.
type remoteTree struct {
	w     *worker
	trees map[unit.Hash][]unit.TreeEntry
	blobs map[unit.Hash][]byte
	size  int
}

var _ unit.Tree = (*remoteTree)(nil)

func newRemoteTree(w *worker) *remoteTree {
	return &remoteTree{w: w, trees: map[unit.Hash][]unit.TreeEntry{}, blobs: map[unit.Hash][]byte{}}
}

func (t *remoteTree) room(n int) {
	if t.size += n; t.size > cacheBytes {
		clear(t.trees)
		clear(t.blobs)
		t.size = n
	}
}

var errBudget = &failure{message: "the render reads more than the agent gives to one app", hint: "look for bases that include each other many times, or for large files"}

// errLost says that the parent could not give an object. The parent knows why.
var errLost = errors.New("an object of the repository can't be read")

// Entries implements unit.Tree.
func (t *remoteTree) Entries(_ context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if e, ok := t.trees[dir]; ok {
		return e, nil
	}
	var q encoder
	q.bytes(dir[:])
	d, s, err := t.w.ask(kindAskTree, q.b)
	if err != nil {
		return nil, err
	}
	switch s {
	case statusOK:
	case statusBudget, statusTooLarge:
		return nil, errBudget
	default:
		return nil, errLost
	}
	size := len(d.b)
	entries := d.entries()
	if err := d.done(); err != nil {
		return nil, err
	}
	t.room(2 * size)
	t.trees[dir] = entries
	return entries, nil
}

// Blob implements unit.Tree. The caller must not change what it gets.
func (t *remoteTree) Blob(_ context.Context, file unit.Hash, max int64) ([]byte, error) {
	if b, ok := t.blobs[file]; ok {
		if int64(len(b)) > max {
			return nil, unit.ErrTooLarge
		}
		return b, nil
	}
	var q encoder
	q.bytes(file[:])
	q.uint(uint64(max))
	d, s, err := t.w.ask(kindAskBlob, q.b)
	if err != nil {
		return nil, err
	}
	switch s {
	case statusOK:
	case statusTooLarge:
		return nil, unit.ErrTooLarge
	case statusBudget:
		return nil, errBudget
	default:
		return nil, errLost
	}
	b := d.bytes()
	if err := d.done(); err != nil {
		return nil, err
	}
	t.room(len(b))
	t.blobs[file] = b
	return b, nil
}
