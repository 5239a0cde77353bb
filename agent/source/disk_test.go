package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func onDisk(dir string) func(*source.Config) {
	return func(c *source.Config) { c.URL = "file://" + dir }
}

func TestARepositoryOnAVolumeIsReadInPlace(t *testing.T) {
	s := newGitServer(t)
	s.write("a/f", "1")
	s.write("b/f", "same")
	s.push()
	r := s.open(onDisk(s.bare))
	first := fetch(t, r)
	s.write("a/f", "2")
	second := s.push()
	got := fetch(t, r)
	if got.Commit != second || read(t, got, "a/f") != "2" || read(t, got, "b/f") != "same" || read(t, first, "a/f") != "1" {
		t.Errorf("got %s", got.Commit)
	}
	if fetch(t, r) != got {
		t.Error("nothing changed, and the snapshot is another one")
	}
	run(t, s.bare, "gc", "-q") // everything is in a pack now, with deltas, and refs are packed
	s.write("a/g", "3")
	third := s.push()
	for _, r := range []*source.Repository{r, s.open(onDisk(s.bare)), s.open(onDisk(s.work))} {
		if got := fetch(t, r); got.Commit != third || read(t, got, "a/f") != "2" || read(t, got, "a/g") != "3" {
			t.Errorf("got %s", got.Commit)
		}
	}
	if n, m := source.Held(fetch(t, r)), source.Held(fetch(t, s.open(onDisk(s.bare)))); n != m {
		t.Errorf("%d objects are held after three commits, %d after one", n, m)
	}
	s.tag("v1.0.0", "a release")
	if got := fetch(t, s.open(onDisk(s.bare), func(c *source.Config) { c.Ref = source.Ref{Semver: "*"} })); got.Commit != third {
		t.Errorf("a tag: got %s", got.Commit)
	}
}

func TestVolumesWithoutAUsableRepository(t *testing.T) {
	s := newGitServer(t)
	dir := t.TempDir()
	_, err := s.open(onDisk(filepath.Join(dir, "none"))).Fetch(t.Context())
	wantError(t, err, "no such file", "mounted")
	_, err = s.open(onDisk(dir)).Fetch(t.Context())
	wantError(t, err, "is not a Git repository", "--bare")
	_, err = s.open(onDisk(s.bare)).Fetch(t.Context())
	wantError(t, err, "the repository is empty", "fetch")
	s.write("f", "1")
	s.push()
	_, err = s.open(onDisk(s.bare), func(c *source.Config) { c.Ref.Branch = "prod" }).Fetch(t.Context())
	wantError(t, err, `no branch "prod"`, "main")
	_, err = s.open(onDisk(s.bare), func(c *source.Config) { c.Ref = source.Ref{Commit: "00000000000000000000000000000000000000ab"} }).Fetch(t.Context())
	wantError(t, err, "commit 00000000000000000000000000000000000000ab", "fsck")
	_, err = s.open(onDisk(s.bare), func(c *source.Config) { c.Limits.Objects = 2 }).Fetch(t.Context())
	wantError(t, err, "over the limit", "large files")
	s.write("large", string(make([]byte, 5000)))
	s.push()
	_, err = s.open(onDisk(s.bare), func(c *source.Config) { c.Limits.ObjectBytes = 4000 }).Fetch(t.Context())
	wantError(t, err, "over the limit: a file of 5000 bytes", "large files")
}

func TestARepositoryOnAVolumeBorrowsNothingFromElsewhere(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "somebody else's")
	s.push()
	borrower := filepath.Join(t.TempDir(), "shared.git")
	run(t, "", "clone", "-q", "--bare", "--shared", s.bare, borrower)
	_, err := s.open(onDisk(borrower)).Fetch(t.Context())
	wantError(t, err, "commit ", "fsck")
	if err := os.Rename(s.bare, s.bare+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.bare+".away", s.bare); err != nil { // as volumes are mounted
		t.Fatal(err)
	}
	fetch(t, s.open(onDisk(s.bare)))
}

func TestADamagedRepositoryOnAVolumeIsRefused(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "right")
	s.push()
	r := s.open(onDisk(s.bare))
	before := fetch(t, r)
	s.write("f", "wrong")
	s.push()
	right, wrong := run(t, s.work, "rev-parse", "HEAD~:f"), run(t, s.work, "rev-parse", "HEAD:f")
	object := func(h string) string { return filepath.Join(s.bare, "objects", h[:2], h[2:]) }
	content, err := os.ReadFile(object(right))
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range [][]byte{content, content[:len(content)/2], []byte("garbage"), {}} { // the first is whole, and another file's
		if err := errors.Join(os.Remove(object(wrong)), os.WriteFile(object(wrong), damage, 0o644)); err != nil {
			t.Fatal(err)
		}
		_, err = r.Fetch(t.Context())
		wantError(t, err, "f: blob "+wrong, "fsck")
		if !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("not told apart: %v", err)
		}
	}
	if _, ok, err := unit.Lookup(t.Context(), before.Tree, before.Root, "f"); !ok || err != nil {
		t.Error("the snapshot before is gone")
	}
}
