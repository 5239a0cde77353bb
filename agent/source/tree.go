package source

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// tree is a snapshot's unit.Tree.
type tree struct {
	objects objects
	parsed  *parsedTrees
	root    unit.Hash
	names   []unit.Hash // of all its files, sorted
	files   *files      // nil: they are among the objects
}

var (
	_ unit.Tree  = (*tree)(nil)
	_ unit.Ahead = (*tree)(nil)
)

// Entries lists a directory. The slice is shared: it must not be written to.
func (t *tree) Entries(ctx context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if entries, ok := t.parsed.get(dir); ok {
		return entries, nil
	}
	entries, err := t.parse(dir)
	if err != nil {
		return nil, err
	}
	t.parsed.put(dir, entries)
	return entries, nil
}

// parse reads a directory without keeping it.
func (t *tree) parse(dir unit.Hash) ([]unit.TreeEntry, error) {
	content, err := t.objects.read(plumbing.TreeObject, dir)
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(content)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", dir, err)
	}
	return entries, nil
}

// Expect names paths that will be rendered: their files can be brought together.
func (t *tree) Expect(paths []string) {
	if t.files != nil {
		t.files.ahead.expect(paths)
	}
}

// Blob reads a file or a link's target. Where files come apart from their
// commit it may have to be brought first.
func (t *tree) Blob(ctx context.Context, file unit.Hash, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from := t.objects
	if t.files != nil {
		o, err := t.files.read(ctx, t, file)
		if err != nil {
			return nil, err
		}
		from = objects{file: o}
	}
	if o, ok := from[file]; ok && o.size > limit {
		return nil, fmt.Errorf("blob %s: %w", file, unit.ErrTooLarge)
	}
	return from.read(plumbing.BlobObject, file)
}

// has tells whether a file is part of the snapshot.
func (t *tree) has(file unit.Hash) bool {
	_, ok := slices.BinarySearchFunc(t.names, file, compareHashes)
	return ok
}

func compareHashes(a, b unit.Hash) int { return bytes.Compare(a[:], b[:]) }

// maxParsed bounds the entries kept parsed: about 2 MiB.
const maxParsed = 1 << 14

// parsedTrees keeps directories parsed. A hash always means the same content,
// so all snapshots of a repository share one.
type parsedTrees struct {
	mu      sync.Mutex
	byHash  map[unit.Hash][]unit.TreeEntry
	entries int
}

func newParsedTrees() *parsedTrees {
	return &parsedTrees{byHash: map[unit.Hash][]unit.TreeEntry{}}
}

func (p *parsedTrees) get(h unit.Hash) ([]unit.TreeEntry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, ok := p.byHash[h]
	return entries, ok
}

func (p *parsedTrees) put(h unit.Hash, entries []unit.TreeEntry) {
	cost := len(entries) + 1
	if cost > maxParsed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.byHash[h]; ok {
		return
	}
	if p.entries+cost > maxParsed {
		clear(p.byHash)
		p.entries = 0
	}
	p.byHash[h] = entries
	p.entries += cost
}
