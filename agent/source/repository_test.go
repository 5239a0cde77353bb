package source_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
)

func TestFetchGivesTheBranchAsATree(t *testing.T) {
	s := newGitServer(t)
	s.write("a/b/deep.yaml", "deep: true\n")
	s.write("run.sh", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(s.work, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a/b", filepath.Join(s.work, "link")); err != nil {
		t.Fatal(err)
	}
	commit := s.push()
	got := fetch(t, s.open())
	if got.Commit != commit || got.RepoURL != s.url || got.Ref != "main" {
		t.Errorf("snapshot is %s of %s at %s, want commit %s", got.Commit, got.RepoURL, got.Ref, commit)
	}
	if want := run(t, s.work, "rev-parse", "HEAD^{tree}"); got.Root.String() != want {
		t.Errorf("root is %s, want %s", got.Root, want)
	}
	if c := read(t, got, "a/b/deep.yaml"); c != "deep: true\n" {
		t.Errorf("content is %q", c)
	}
	if c := read(t, got, "link"); c != "a/b" {
		t.Errorf("link goes to %q", c)
	}
	modes := map[string]unit.Mode{}
	entries, err := got.Tree.Entries(t.Context(), got.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		modes[e.Name] = e.Mode
	}
	want := map[string]unit.Mode{"a": unit.ModeDir, "run.sh": unit.ModeExecutable, "link": unit.ModeSymlink}
	if fmt.Sprint(modes) != fmt.Sprint(want) {
		t.Errorf("modes are %v, want %v", modes, want)
	}
}

func TestFetchWithoutChangeDownloadsNothing(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	r := s.open()
	first := fetch(t, r)
	requests, packs := s.requests.Load(), s.packs.Load()
	second := fetch(t, r)
	if first != second {
		t.Error("the snapshot is another one")
	}
	if s.packs.Load() != packs || s.requests.Load() != requests+1 {
		t.Errorf("cost %d requests, %d of them packs; want one that lists the branches", s.requests.Load()-requests, s.packs.Load()-packs)
	}
}

func TestFetchBringsOnlyWhatChanged(t *testing.T) {
	s := newGitServer(t)
	for i := range 500 {
		var noise strings.Builder // does not compress well
		for j := range 40 {
			fmt.Fprintf(&noise, "k%d: %x\n", j, uint64(i*7919+j*104729)*0x9E3779B97F4A7C15)
		}
		s.write(fmt.Sprintf("apps/app%03d/deploy.yaml", i), noise.String())
	}
	s.push()
	r := s.open()
	fetch(t, r)
	whole := s.sent.Swap(0)
	s.write("apps/app250/deploy.yaml", "replicas: 3\n")
	commit := s.push()
	got := fetch(t, r)
	if got.Commit != commit || read(t, got, "apps/app250/deploy.yaml") != "replicas: 3\n" {
		t.Error("the change did not arrive")
	}
	read(t, got, "apps/app499/deploy.yaml")
	// The directory of 500 entries alone is 17 KB that don't compress: only as a
	// delta against the one we have is it less.
	part := s.sent.Load()
	t.Logf("everything: %d bytes, one file's change: %d bytes", whole, part)
	if part > 5<<10 {
		t.Errorf("one file's change cost %d bytes (everything: %d)", part, whole)
	}
}

func TestEarlierSnapshotsStayReadable(t *testing.T) {
	s := newGitServer(t)
	s.write("keep", "same")
	s.write("gone", "old content")
	s.write("dir/f", "v1")
	s.push()
	r := s.open()
	first := fetch(t, r)
	if err := os.Remove(filepath.Join(s.work, "gone")); err != nil {
		t.Fatal(err)
	}
	s.write("dir/f", "v2")
	s.push()
	second := fetch(t, r)
	if read(t, first, "gone") != "old content" || read(t, first, "dir/f") != "v1" {
		t.Error("the first snapshot changed")
	}
	if read(t, second, "dir/f") != "v2" || read(t, second, "keep") != "same" {
		t.Error("the second snapshot is not the second commit")
	}
	gone, _, err := unit.Lookup(t.Context(), first.Tree, first.Root, "gone")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Tree.Blob(t.Context(), gone.Hash, 1<<20); err == nil {
		t.Error("the second snapshot keeps a file that its commit does not have")
	}
}

func TestRewrittenHistoryIsFollowed(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	first := s.push()
	r := s.open()
	fetch(t, r)
	s.write("f", "2")
	s.push()
	fetch(t, r)

	s.write("f", "2 amended")
	amended := s.push("--amend")
	if got := fetch(t, r); got.Commit != amended || read(t, got, "f") != "2 amended" {
		t.Errorf("an amended commit: got %s", got.Commit)
	}
	run(t, s.work, "push", "-q", "--force", "origin", first+":main")
	if got := fetch(t, r); got.Commit != first || read(t, got, "f") != "1" {
		t.Errorf("a branch set back: got %s", got.Commit)
	}
	// Nothing in common, and the server forgot all that we have.
	run(t, s.work, "checkout", "-q", "--orphan", "fresh")
	s.write("f", "3")
	orphan := s.push()
	run(t, s.bare, "reflog", "expire", "--expire=now", "--all")
	run(t, s.bare, "gc", "-q", "--prune=now")
	if got := fetch(t, r); got.Commit != orphan || read(t, got, "f") != "3" {
		t.Errorf("new history: got %s", got.Commit)
	}
}

func TestMergesAndLongGapsAreFollowed(t *testing.T) {
	s := newGitServer(t)
	s.write("base", "1")
	s.push()
	r := s.open()
	fetch(t, r)
	run(t, s.work, "checkout", "-q", "-b", "side")
	s.write("side", "s")
	run(t, s.work, "add", "-A")
	run(t, s.work, "commit", "-q", "-m", "side")
	run(t, s.work, "checkout", "-q", "main")
	for i := range 5 {
		s.write("base", fmt.Sprint("main ", i))
		run(t, s.work, "commit", "-q", "-am", "main")
	}
	run(t, s.work, "merge", "-q", "-m", "merge", "side")
	s.push()
	got := fetch(t, r)
	if read(t, got, "side") != "s" || read(t, got, "base") != "main 4" {
		t.Error("the merge did not arrive whole")
	}
}

func TestSubmodulesAreLeftAlone(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	run(t, s.work, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("ab", 20)+",vendored")
	run(t, s.work, "commit", "-q", "-m", "submodule")
	run(t, s.work, "push", "-q", "origin", "HEAD:main")
	got := fetch(t, s.open())
	e, ok, err := unit.Lookup(t.Context(), got.Tree, got.Root, "vendored")
	if err != nil || !ok || e.Mode != unit.ModeSubmodule {
		t.Errorf("got %+v, %v, %v", e, ok, err)
	}
}

func TestBlobRefusesAFileOverTheCallersLimit(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "12345678")
	s.push()
	got := fetch(t, s.open())
	e, _, err := unit.Lookup(t.Context(), got.Tree, got.Root, "f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Tree.Blob(t.Context(), e.Hash, 7); !errors.Is(err, unit.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if b, err := got.Tree.Blob(t.Context(), e.Hash, 8); err != nil || string(b) != "12345678" {
		t.Errorf("at the limit: %q, %v", b, err)
	}
	if _, err := got.Tree.Blob(t.Context(), got.Root, 1<<20); err == nil {
		t.Error("a directory was read as a file")
	}
	if _, err := got.Tree.Entries(t.Context(), e.Hash); err == nil {
		t.Error("a file was listed as a directory")
	}
}

func TestManyMayFetchAndReadAtOnce(t *testing.T) {
	s := newGitServer(t)
	s.write("d/f", "1")
	s.push()
	r := s.open()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				got, err := r.Fetch(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if _, ok, err := unit.Lookup(t.Context(), got.Tree, got.Root, "d/f"); err != nil || !ok {
					t.Errorf("found %v, %v", ok, err)
				}
			}
		})
	}
	for i := range 3 {
		s.write("d/f", fmt.Sprint(i))
		s.push()
	}
	wg.Wait()
}

func TestAFetchThatNobodyWaitsForEnds(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.open().Fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLimits(t *testing.T) {
	for name, limits := range map[string]source.Limits{
		"pack":    {PackBytes: 100},
		"object":  {ObjectBytes: 1000},
		"total":   {TotalBytes: 2000},
		"objects": {Objects: 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newGitServer(t)
			for i := range 5 {
				s.write(fmt.Sprintf("f%d", i), strings.Repeat(fmt.Sprint(i), 900+i*100))
			}
			s.push()
			_, err := s.open(func(c *source.Config) { c.Limits = limits }).Fetch(t.Context())
			wantError(t, err, "over the limit", "large files")
		})
	}
}

func TestACommitOverTheLimitsIsNotDownloadedAgain(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "small")
	s.push()
	r := s.open(func(c *source.Config) { c.Limits.ObjectBytes = 1000 })
	fetch(t, r)
	s.write("f", strings.Repeat("large", 1000))
	s.push()
	_, err := r.Fetch(t.Context())
	wantError(t, err, "over the limit", "large files")
	packs := s.packs.Load()
	_, err = r.Fetch(t.Context())
	wantError(t, err, "over the limit", "large files")
	if s.packs.Load() != packs {
		t.Error("it was downloaded again")
	}
	s.write("f", "small again")
	s.push()
	if got := fetch(t, r); read(t, got, "f") != "small again" {
		t.Error("the next commit did not arrive")
	}
}

func TestSmallFetchesMayNotAddUpToMoreThanTheLimits(t *testing.T) {
	s := newGitServer(t)
	s.write("f0", strings.Repeat("0", 900))
	s.push()
	r := s.open(func(c *source.Config) { c.Limits.TotalBytes = 2500 })
	fetch(t, r)
	s.write("f1", strings.Repeat("1", 900))
	s.push()
	fetch(t, r)
	s.write("f2", strings.Repeat("2", 900))
	s.push()
	_, err := r.Fetch(t.Context())
	wantError(t, err, "over the limit", "large files")
}
