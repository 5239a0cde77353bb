package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// Main is a worker's whole life: it confines itself, then renders what it
// is asked to until in ends, which is when its parent wants it gone or is gone.
func Main(in io.Reader, out io.Writer) error {
	confined := confine()
	os.Stdout = os.Stderr // what kustomize prints is no frame
	debug.SetMaxStack(64 << 20)
	time.Local = time.UTC // no file tells another one
	network := refuseNetwork()

	w := &worker{out: out, frames: make(chan frame)}
	go w.read(bufio.NewReaderSize(in, 64<<10))
	first, err := w.next(pipe.KindSetup)
	if err != nil {
		return endOfInput(err)
	}
	s, err := pipe.DecodeSetup(first)
	if err != nil {
		return err
	}
	limitMemory(s.Memory)
	if err := pipe.WriteFrame(out, pipe.KindHello, hello(confined)); err != nil {
		return err
	}
	w.tree = newRemoteTree(w)
	for {
		b, err := w.next(pipe.KindJob)
		if err != nil {
			return endOfInput(err)
		}
		j, err := pipe.DecodeJob(b)
		if err != nil {
			return err
		}
		w.busy.Store(true)
		o, err := build(w.tree, w.key, network, w.chart, j)
		w.busy.Store(false)
		if err != nil {
			return err
		}
		if err := pipe.WriteFrame(out, pipe.KindOutcome, o.Encode()); err != nil {
			return err
		}
	}
}

// hello says what this is, and why it could not be confined if so.
func hello(confined error) []byte {
	h := pipe.Hello{Renderer: pipe.Version}
	if confined != nil {
		h.Unconfined = confined.Error()
	}
	return h.Encode()
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
	kind pipe.Kind
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
		k, body, err := pipe.ReadFrame(in)
		if err != nil && w.busy.Load() {
			os.Exit(1)
		}
		w.frames <- frame{k, body, err}
		if err != nil {
			return
		}
	}
}

func (w *worker) next(want pipe.Kind) ([]byte, error) {
	f := <-w.frames
	if f.err == nil && f.kind != want {
		f.err = fmt.Errorf("%w: kind %d where %d is due", pipe.ErrFrame, f.kind, want)
	}
	return f.body, f.err
}

// ask sends a question to the parent and waits for the answer.
func (w *worker) ask(k pipe.Kind, question []byte) ([]byte, error) {
	if err := pipe.WriteFrame(w.out, k, question); err != nil {
		return nil, err
	}
	return w.next(pipe.KindAnswer)
}

// chart fetches something of a place where charts are kept.
func (w *worker) chart(f unit.ChartFile) ([]byte, error) {
	answer, err := w.ask(pipe.KindAskChart, pipe.AskChart{File: f}.Encode())
	if err != nil {
		return nil, err
	}
	b, s, err := pipe.DecodeBlob(answer)
	switch {
	case err != nil:
		return nil, err
	case s == pipe.StatusBudget:
		return nil, &failure{message: "the render fetches more charts than the agent gives to one app", hint: "commit the charts to the repository"}
	case s != pipe.StatusOK:
		return nil, errLost
	}
	return b, nil
}

// key has the parent decrypt a data key.
func (w *worker) key(wrapped []unit.WrappedKey) ([]byte, error) {
	answer, err := w.ask(pipe.KindAskKey, pipe.AskKey{Any: wrapped}.Encode())
	if err != nil {
		return nil, err
	}
	k, s, err := pipe.DecodeKey(answer)
	switch {
	case err != nil:
		return nil, err
	case s == pipe.StatusRefused, s == pipe.StatusAway:
		return nil, &failure{message: k.Message, hint: k.Hint, again: k.Away}
	case s == pipe.StatusBudget:
		return nil, errKeyBudget
	case s != pipe.StatusOK:
		return nil, errLost
	}
	return k.Data, nil
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
	answer, err := t.w.ask(pipe.KindAskTree, pipe.AskTree{Dir: dir}.Encode())
	if err != nil {
		return nil, err
	}
	entries, s, err := pipe.DecodeEntries(answer)
	switch {
	case err != nil:
		return nil, err
	case s == pipe.StatusBudget, s == pipe.StatusTooLarge:
		return nil, errBudget
	case s != pipe.StatusOK:
		return nil, errLost
	}
	t.room(2 * len(answer))
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
	answer, err := t.w.ask(pipe.KindAskBlob, pipe.AskBlob{File: file, Most: uint64(max)}.Encode())
	if err != nil {
		return nil, err
	}
	b, s, err := pipe.DecodeBlob(answer)
	switch {
	case err != nil:
		return nil, err
	case s == pipe.StatusTooLarge:
		return nil, unit.ErrTooLarge
	case s == pipe.StatusBudget:
		return nil, errBudget
	case s != pipe.StatusOK:
		return nil, errLost
	}
	t.room(len(b))
	t.blobs[file] = b
	return b, nil
}
