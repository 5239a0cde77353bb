package source_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
)

func TestMemoryDoesNotGrowWithCommits(t *testing.T) {
	const commits, size = 60, 200 << 10
	s := newGitServer(t)
	s.importHistory(commits, size)
	r := s.open()
	run(t, s.bare, "update-ref", "refs/heads/main", fmt.Sprintf("refs/all/%d", 0))
	before, objects := liveHeap(), source.Held(fetch(t, r))
	for i := range commits {
		run(t, s.bare, "update-ref", "refs/heads/main", fmt.Sprintf("refs/all/%d", i))
		got := fetch(t, r)
		if n := source.Held(got); n != objects {
			t.Fatalf("%d objects are held after %d commits, want %d as at first", n, i+1, objects)
		}
	}
	grown := liveHeap() - before
	t.Logf("%d commits of %d bytes: the heap grew by %d bytes", commits, size, grown)
	if grown > 10*size {
		t.Errorf("the heap grew by %d bytes, as if commits of %d bytes were kept", grown, size)
	}
	runtime.KeepAlive(r)
}

// importHistory makes commits refs/all/0 and on, each with new content of one
// file that does not compress.
func (s *gitServer) importHistory(commits, size int) {
	s.t.Helper()
	var in strings.Builder
	noise := rand.NewChaCha8([32]byte{})
	for i := range commits {
		content := make([]byte, size)
		_, _ = noise.Read(content)
		fmt.Fprintf(&in, "commit refs/heads/tmp\nmark :%d\ncommitter dev <dev@example.com> %d +0000\ndata 1\nx\n", i+1, 1700000000+i)
		fmt.Fprintf(&in, "M 644 inline dir/f\ndata %d\n%s\n", len(content), content)
		fmt.Fprintf(&in, "M 644 inline dir/sum\ndata %d\n%s\n", 32, hex.EncodeToString(content[:16]))
		fmt.Fprintf(&in, "reset refs/all/%d\nfrom :%d\n\n", i, i+1)
	}
	cmd := exec.CommandContext(s.t.Context(), "git", "fast-import", "--quiet")
	cmd.Dir, cmd.Env, cmd.Stdin = s.bare, gitEnv(), strings.NewReader(in.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("git fast-import: %v\n%s", err, bytes.TrimSpace(out))
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
