//go:build linux

package render_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// children lists the processes whose parent this one is.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // gone
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, filepath.Base(filepath.Dir(stat)))
		}
	}
	return pids
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("never: " + what)
		case <-tick.C:
		}
	}
}

func TestOneWorkerServesABurstAndIsGoneAfterwards(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: 200 * time.Millisecond})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s := r.Stats(); s.Starts != 1 || s.Renders != 10 {
		t.Errorf("stats %+v", s)
	}
	eventually(t, "no child is left", func() bool { return len(children(t)) == 0 })
	if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil {
		t.Error(err)
	}
	if s := r.Stats(); s.Starts != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestACancelledRenderLeavesNothingBehind(t *testing.T) {
	r := newRenderer(t, render.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Render(ctx, ask(diamond(20), "a/n20"))
		done <- err
	}()
	eventually(t, "a worker", func() bool { return r.Stats().Starts == 1 })
	waiting, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := r.Render(waiting, ask(guestbook, devOverlay)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that waited: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil || len(got.Objects) != 2 {
		t.Errorf("the next render: %d objects, %v", len(got.Objects), err)
	}
}

func TestARenderThatTakesItsTimeDelaysNoOther(t *testing.T) {
	r := newRenderer(t, render.Config{Patience: time.Millisecond})
	q := unit.RenderRequest{Snapshot: snapshot(guestbook), Path: "apps/guestbook/base"}
	hangs := stuckTree{Tree: q.Snapshot.Tree, asked: make(chan struct{}, 1), free: make(chan struct{})}
	q.Snapshot.Tree = hangs
	done := make(chan error, 1)
	go func() {
		_, err := r.Render(t.Context(), q)
		done <- err
	}()
	<-hangs.asked
	if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil {
		t.Errorf("another: %v", err)
	}
	close(hangs.free)
	if err := <-done; err != nil {
		t.Errorf("the one that hung: %v", err)
	}
	if s := r.Stats(); s.Starts != 2 || s.Renders != 2 {
		t.Errorf("stats %+v", s)
	}
}

// stuckTree gives no file until it may.
type stuckTree struct {
	unit.Tree
	asked, free chan struct{}
}

func (t stuckTree) Blob(ctx context.Context, file unit.Hash, max int64) ([]byte, error) {
	select {
	case t.asked <- struct{}{}:
	default:
	}
	<-t.free
	return t.Tree.Blob(ctx, file, max)
}

func TestAnObjectThatCantBeHadIsNotTheRepositorysFault(t *testing.T) {
	r := newRenderer(t, render.Config{})
	q := ask(guestbook, devOverlay)
	broken := newMemTree()
	broken.Fail = errors.New("pack is damaged")
	q.Snapshot.Tree = broken
	if _, err := r.Render(t.Context(), q); !errors.Is(err, broken.Fail) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil {
		t.Errorf("the next render: %v", err)
	}
}

// killer is a tree that ends the workers at its first reads.
type killer struct {
	unit.Tree
	t     *testing.T
	times int
}

func (k *killer) Entries(ctx context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if k.times > 0 {
		k.times--
		for _, pid := range children(k.t) {
			n, _ := strconv.Atoi(pid)
			if p, err := os.FindProcess(n); err == nil {
				_ = p.Kill()
			}
		}
	}
	return k.Tree.Entries(ctx, dir)
}

func TestAWorkerThatIsKilledOnceIsNotTheRepositorysFault(t *testing.T) {
	for times, want := range map[int]string{1: "", 2: "crashed"} {
		r := newRenderer(t, render.Config{})
		q := ask(guestbook, devOverlay)
		q.Snapshot.Tree = &killer{Tree: q.Snapshot.Tree, t: t, times: times}
		if want != "" {
			if bad := refused(t, r, q); !strings.Contains(bad.Message, want) {
				t.Errorf("got %+v", bad)
			}
		} else if got, err := r.Render(t.Context(), q); err != nil || len(got.Objects) != 2 {
			t.Errorf("killed once: %d objects, %v", len(got.Objects), err)
		}
		if s := r.Stats(); s.Starts != 2 || s.Renders != 1 {
			t.Errorf("stats %+v", s)
		}
		_ = r.Close() // its worker is a child that the next one would kill
	}
}

func TestAWorkerThatDoesNotStartIsAnError(t *testing.T) {
	for _, argv := range [][]string{{"/nonexistent/worker"}, {"/bin/true"}} {
		r := newRenderer(t, render.Config{Worker: argv})
		if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err == nil || !strings.Contains(err.Error(), "render worker") {
			t.Errorf("%v: %v", argv, err)
		}
	}
}

func TestNothingIsRenderedAfterClose(t *testing.T) {
	r := newRenderer(t, render.Config{})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err == nil {
		t.Error("rendered by a closed renderer")
	}
}

// slowTree takes its time with every file.
type slowTree struct {
	unit.Tree
	each time.Duration
	err  error
}

func (t slowTree) Blob(ctx context.Context, file unit.Hash, max int64) ([]byte, error) {
	timer := time.NewTimer(t.each)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	if t.err != nil {
		return nil, t.err
	}
	return t.Tree.Blob(ctx, file, max)
}

func TestTimeThatFilesTakeToComeIsNotTheRendersOwn(t *testing.T) {
	const limit = 2 * time.Second
	r := newRenderer(t, render.Config{Timeout: limit})
	q := unit.RenderRequest{Snapshot: snapshot(guestbook), Path: "apps/guestbook/base"}
	q.Snapshot.Tree = slowTree{Tree: q.Snapshot.Tree, each: limit} // three files
	if _, err := r.Render(t.Context(), q); err != nil {
		t.Errorf("a render that waited: %v", err)
	}
}

func TestFilesThatCannotBeHadAreNoFaultOfTheApp(t *testing.T) {
	r := newRenderer(t, render.Config{})
	q := unit.RenderRequest{Snapshot: snapshot(guestbook), Path: "apps/guestbook/base"}
	gone := errors.New("the server is gone")
	q.Snapshot.Tree = slowTree{Tree: q.Snapshot.Tree, err: gone}
	_, err := r.Render(t.Context(), q)
	lost, ok := errors.AsType[*unit.ReadError](err)
	if !ok || !errors.Is(err, gone) || lost.Path != q.Path {
		t.Errorf("got %v", err)
	}
	if _, ok := errors.AsType[*unit.RenderError](err); ok {
		t.Error("it is said to be the repository's content")
	}
}
