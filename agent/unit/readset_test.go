package unit_test

import (
	"context"
	"crypto/sha1" //nolint:gosec // Git's own hash
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// trees is a repository's directories, in memory.
type trees map[unit.Hash][]unit.TreeEntry

var _ unit.Tree = trees{}

func (t trees) Entries(_ context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	e, ok := t[dir]
	if !ok {
		return nil, errors.New("no such directory")
	}
	return e, nil
}

func (trees) Blob(context.Context, unit.Hash, int64) ([]byte, error) {
	return nil, errors.New("nothing reads blobs here")
}

func hashOf(s string) unit.Hash { return sha1.Sum([]byte(s)) } //nolint:gosec // see above

// add puts files, paths to contents, in and gives the root.
func (t trees) add(files map[string]string) unit.Hash {
	var entries []unit.TreeEntry
	below := map[string]map[string]string{}
	for p, content := range files {
		dir, rest, deep := strings.Cut(p, "/")
		if !deep {
			entries = append(entries, unit.TreeEntry{Name: p, Mode: unit.ModeRegular, Hash: hashOf(content)})
			continue
		}
		if below[dir] == nil {
			below[dir] = map[string]string{}
		}
		below[dir][rest] = content
	}
	for dir, files := range below {
		entries = append(entries, unit.TreeEntry{Name: dir, Mode: unit.ModeDir, Hash: t.add(files)})
	}
	slices.SortFunc(entries, func(a, b unit.TreeEntry) int { return strings.Compare(a.Name, b.Name) })
	root := hashOf(fmt.Sprint(entries))
	t[root] = entries
	return root
}

// monorepo has 20 files for each app, in four directories of its own.
func monorepo(apps int) map[string]string {
	files := map[string]string{"shared/kustomization.yaml": "shared"}
	for a := range apps {
		for f := range 20 {
			files[fmt.Sprintf("apps/app-%04d/%s/file-%02d.yaml", a, []string{"base", "overlays/dev", "overlays/prod", "config"}[f%4], f)] = fmt.Sprint(a, f)
		}
	}
	return files
}

// readsOf are what a render of one app reads: its 20 files, and what is shared.
func readsOf(t testing.TB, tree unit.Tree, root unit.Hash, files map[string]string, app int) unit.ReadSet {
	t.Helper()
	r := unit.ReadSet{Paths: map[string]unit.Read{}, Renderer: "r"}
	dir := fmt.Sprintf("apps/app-%04d", app)
	for p := range files {
		if strings.HasPrefix(p, dir+"/") || strings.HasPrefix(p, "shared/") {
			e, _, err := unit.Lookup(t.Context(), tree, root, p)
			if err != nil {
				t.Fatal(err)
			}
			r.Paths[p] = unit.Read{Kind: unit.ReadFile, Mode: e.Mode, Hash: e.Hash}
		}
	}
	r.Paths[dir] = unit.Read{Kind: unit.ReadDir}
	r.Paths[dir+"/overlays/dev/Kustomization"] = unit.Read{Kind: unit.ReadMissing}
	return r
}

func BenchmarkDecide(b *testing.B) {
	files := monorepo(1000)
	tree := trees{}
	before := tree.add(files)
	perApp := map[int]map[string]string{}
	for p, c := range files {
		var a int
		if _, err := fmt.Sscanf(p, "apps/app-%d/", &a); err == nil {
			if perApp[a] == nil {
				perApp[a] = map[string]string{"shared/kustomization.yaml": "shared"}
			}
			perApp[a][p] = c
		}
	}
	var all []unit.ReadSet
	for a := range 1000 {
		all = append(all, readsOf(b, tree, before, perApp[a], a))
	}
	files["apps/app-0500/base/file-00.yaml"] = "changed"
	after := tree.add(files)
	b.Run("path by path", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for _, r := range all {
				holds, err := r.Holds(b.Context(), tree, after, unit.Facts{}, "r")
				if err != nil {
					b.Fatal(err)
				}
				if !holds {
					n++
				}
			}
			if n != 1 {
				b.Fatal(n)
			}
		}
	})
	b.Run("by index", func(b *testing.B) {
		var x unit.ReadIndex[int]
		roots := []unit.Hash{before, after}
		for i := 0; b.Loop(); i++ {
			n := 0
			for a, r := range all {
				holds, err := x.Holds(b.Context(), a, r, tree, roots[i%2], unit.Facts{}, "r")
				if err != nil {
					b.Fatal(err)
				}
				if !holds {
					n++
				}
			}
			if n != i%2 {
				b.Fatal(n)
			}
		}
	})
}
