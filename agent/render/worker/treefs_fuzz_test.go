package worker

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/unit/memtree"
)

// Whatever a repository's links say and a kustomization asks for, nothing
// outside the tree is named, nothing is found that is not in the read-set, and
// what was found is found again.
func FuzzTreeFS(f *testing.F) {
	f.Add("a/b.yaml", "../c", "a/link/b.yaml")
	f.Add("a", "a", "a/../../etc/passwd")
	f.Add("x/y/z", "/etc", "/x/./y//z")
	f.Add("d/e", "../../d", "d/e/d/e/d/e")
	f.Fuzz(func(t *testing.T, file, target, asked string) {
		for name := range strings.SplitSeq(file, "/") {
			if name == "" || name == "." || name == ".." || strings.ContainsRune(name, 0) {
				return // Git has no such name, and agent/source refuses it
			}
		}
		tree := memtree.New()
		root := tree.Add(memtree.Files{"links/l": memtree.LinkTo + target, "tree/" + file: "content"})
		reads := unit.ReadSet{Paths: map[string]unit.Read{}}
		fsys := &treeFS{tree: tree, root: root, reads: &reads}
		for _, name := range []string{path.Join(mount, asked), mount + "/links/l/" + asked, mount + "/tree/" + asked, asked} {
			content, err := fsys.ReadFile(name)
			if err == nil && string(content) != "content" {
				t.Errorf("%q reads %q", name, content)
			}
			exists, isDir := fsys.Exists(name), fsys.IsDir(name)
			if err == nil && (!exists || isDir) || isDir && !exists {
				t.Errorf("%q: read %v, exists %t, directory %t", name, err, exists, isDir)
			}
			dir, base, err := fsys.CleanedAbs(name)
			if at := path.Join(dir.String(), base); err == nil && at != mount && !strings.HasPrefix(at, mount+"/") {
				t.Errorf("%q is at %q", name, at)
			}
			if exists && !isDir {
				if _, known := reads.Paths[strings.TrimPrefix(strings.TrimPrefix(path.Join(dir.String(), base), mount), "/")]; !known {
					t.Errorf("%q was found, and is not among what was read: %v", name, reads.Paths)
				}
			}
			_ = fsys.Walk(name, func(p string, _ fs.FileInfo, err error) error {
				if err == nil && !strings.HasPrefix(p, mount) {
					t.Errorf("the walk of %q came to %q", name, p)
				}
				if errors.Is(err, fs.ErrNotExist) {
					return filepath.SkipDir
				}
				return err
			})
			_, _ = fsys.Glob(name)
			_, _ = fsys.ReadDir(name)
		}
		for p := range reads.Paths {
			if path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") {
				t.Errorf("the read-set names %q", p)
			}
		}
		if holds, err := reads.Holds(t.Context(), tree, root, unit.Facts{}, reads.Renderer); err != nil || !holds {
			t.Errorf("nothing changed, and the read-set does not hold: %v, %v", holds, err)
		}
	})
}
