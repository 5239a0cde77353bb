package render_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// gitTree reads a repository as git has it stored.
type gitTree struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

var _ unit.Tree = (*gitTree)(nil)

func openGit(t *testing.T, dir string) *gitTree {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "-C", dir, "cat-file", "--batch")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return &gitTree{in: in, out: bufio.NewReader(out)}
}

// object gives an object and its hash by any name that git knows.
func (g *gitTree) object(name string) (unit.Hash, []byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := fmt.Fprintln(g.in, name); err != nil {
		return unit.Hash{}, nil, err
	}
	head, err := g.out.ReadString('\n')
	if err != nil {
		return unit.Hash{}, nil, err
	}
	fields := strings.Fields(head)
	if len(fields) != 3 {
		return unit.Hash{}, nil, fmt.Errorf("git: %s", head)
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil {
		return unit.Hash{}, nil, err
	}
	content := make([]byte, size+1) // and a line break
	if _, err := io.ReadFull(g.out, content); err != nil {
		return unit.Hash{}, nil, err
	}
	h, err := unit.ParseHash(fields[0])
	return h, content[:size], err
}

func (g *gitTree) Entries(_ context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	_, b, err := g.object(dir.String())
	var entries []unit.TreeEntry
	for len(b) > 0 && err == nil {
		head, rest, _ := bytes.Cut(b, []byte{0})
		mode, name, _ := strings.Cut(string(head), " ")
		var m uint64
		if m, err = strconv.ParseUint(mode, 8, 32); err != nil {
			break
		}
		entries = append(entries, unit.TreeEntry{Name: name, Mode: unit.Mode(m), Hash: unit.Hash(rest[:20])})
		b = rest[20:]
	}
	return entries, err
}

func (g *gitTree) Blob(_ context.Context, file unit.Hash, limit int64) ([]byte, error) {
	_, b, err := g.object(file.String())
	if int64(len(b)) > limit {
		return nil, unit.ErrTooLarge
	}
	return b, err
}

// importHistory makes one commit after the other in a bare repository.
func importHistory(t *testing.T, history []files) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repository.git")
	var stream bytes.Buffer
	for i, repo := range history {
		fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 0\ndeleteall\n", 1_700_000_000+i)
		for _, p := range slices.Sorted(maps.Keys(repo)) {
			mode, content := "100644", repo[p]
			if target, link := strings.CutPrefix(content, linkTo); link {
				mode, content = "120000", target
			}
			fmt.Fprintf(&stream, "M %s inline %s\ndata %d\n%s\n", mode, p, len(content), content)
		}
	}
	for _, c := range []struct {
		args  []string
		input io.Reader
	}{
		{[]string{"init", "--quiet", "--bare", dir}, nil},
		{[]string{"-C", dir, "fast-import", "--quiet"}, &stream},
	} {
		cmd := exec.CommandContext(t.Context(), "git", c.args...)
		cmd.Stdin = c.input
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", c.args[0], err, out)
		}
	}
	return dir
}

// randomHistory goes on from commit to commit, and now and then a commit mends
// all that was broken.
func randomHistory(rng *rand.Rand, commits int) []files {
	pristine := generated().With(plain)
	history := []files{pristine}
	for len(history) < commits {
		next := mutate(rng, history[len(history)-1])
		if rng.IntN(6) == 0 {
			next = pristine
		}
		if len(next) > 0 {
			history = append(history, next)
		}
	}
	return history
}

// Over the history of a repository, what is decided from read-sets is compared
// with what rendering everything at every commit gives.
func TestNoCommitOfAHistoryIsMissed(t *testing.T) {
	const commits = 300
	tree := openGit(t, importHistory(t, randomHistory(rand.New(rand.NewPCG(7, 8)), commits)))
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	type app struct {
		path     string
		choose   *unit.Directory
		rendered string
		reads    unit.ReadSet
	}
	var apps []*app
	for _, p := range []string{"c/dev", "c/prod", "c/broken", "linked", devOverlay, "apps/guestbook/overlays/prod", "b", "c/prod/extra", `apps/guestbook/overlays/{{ label "env" }}`, "a", "a/sub", "."} {
		apps = append(apps, &app{path: p})
	}
	apps = append(apps, &app{path: "a", choose: &unit.Directory{Recurse: true}}, &app{path: "a", choose: &unit.Directory{Recurse: true, Include: []string{"sub/**"}, Exclude: []string{"tests"}}})

	var index unit.ReadIndex[*app]
	held, right, needless := 0, 0, 0
	for i := range commits {
		root, _, err := tree.object(fmt.Sprintf("main~%d^{tree}", commits-1-i))
		if err != nil {
			t.Fatal(err)
		}
		facts := unit.Facts{Cluster: "dev-1", Labels: map[string]string{"env": []string{"dev", "prod"}[i/20%2]}}
		for _, a := range apps {
			now, reads := result(t, r, unit.RenderRequest{Snapshot: unit.Snapshot{Root: root, Tree: tree}, Path: a.path, Directory: a.choose, Facts: facts})
			holds, err := a.reads.Holds(t.Context(), tree, root, facts, r.Version())
			if err != nil {
				t.Fatal(err)
			}
			if byIndex, err := index.Holds(t.Context(), a, a.reads, tree, root, facts, r.Version()); err != nil || byIndex != holds {
				t.Fatalf("commit %d: %s holds %t, and by the index %t, %v", i, a.path, holds, byIndex, err)
			}
			switch {
			case holds && now != a.rendered:
				t.Fatalf("commit %d is missed: %s gave\n%s\nand gives\n%s", i, a.path, a.rendered, now)
			case holds:
				held++
			case now != a.rendered:
				right++
			default:
				needless++
			}
			if !holds {
				a.rendered, a.reads = now, reads
			}
		}
	}
	t.Logf("%d commits, %d apps: %d renders spared, %d that gave something else, %d that gave the same", commits, len(apps), held, right, needless)
	if held < commits*len(apps)/4 || right < 300 {
		t.Errorf("%d held and %d gave something else: too few of one to prove anything", held, right)
	}
	if needless > right {
		t.Errorf("%d renders gave the same as before, and only %d something else", needless, right)
	}
}
