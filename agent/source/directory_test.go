package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestOpenDirectoryIsWhatGitWouldCommit(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "init", "-q")
	// Git sorts a directory as if its name ended in a slash.
	for _, f := range []string{"a/x", "a-b", "a.c", "sub/deep/er/f", "b"} {
		writeFile(t, filepath.Join(dir, f), "content of "+f)
	}
	if err := os.Chmod(filepath.Join(dir, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "empty/inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "add", "-A")
	got, err := source.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := run(t, dir, "write-tree"); got.Root.String() != want || got.Commit != want {
		t.Errorf("root is %s, git says %s", got.Root, want)
	}
	if got.Ref != "local" || got.RepoURL != "file://"+dir {
		t.Errorf("it is called %s at %s", got.Ref, got.RepoURL)
	}
	if c := read(t, got, "sub/deep/er/f"); c != "content of sub/deep/er/f" {
		t.Errorf("content is %q", c)
	}
	if c := read(t, got, "link"); c != "../outside" {
		t.Errorf("the link was followed: %q", c)
	}
	for _, gone := range []string{".git", "empty"} {
		if _, ok, err := unit.Lookup(t.Context(), got.Tree, got.Root, gone); ok || err != nil {
			t.Errorf("%s is there, %v", gone, err)
		}
	}
}

func TestADirectoryThatChangesIsNotReadHalf(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "before")
	got, err := source.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := unit.Lookup(t.Context(), got.Tree, got.Root, "f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Tree.Blob(t.Context(), e.Hash, 5); !errors.Is(err, unit.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	for _, change := range []string{"after!", "before and more", ""} {
		writeFile(t, filepath.Join(dir, "f"), change)
		_, err := got.Tree.Blob(t.Context(), e.Hash, 100)
		if err == nil || !strings.Contains(err.Error(), "f changed") || fleet.Hint(err) == "" {
			t.Errorf("changed to %q: %v", change, err)
		}
	}
}

func TestOpenDirectoryNeedsADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	writeFile(t, file, "")
	for _, path := range []string{file, file + "/missing", filepath.Dir(file) + "/missing"} {
		if _, err := source.OpenDirectory(path); err == nil || fleet.Hint(err) == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
}
