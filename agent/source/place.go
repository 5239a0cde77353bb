package source

import (
	"context"
	"io"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// place is somewhere the repository can be read from. Its errors are explained:
// they say what went wrong, and have a hint.
type place interface {
	// visit looks at what is there now. A visit is for one fetch.
	visit(ctx context.Context) (visit, error)
}

// visit is one look at a place.
type visit interface {
	io.Closer
	references() references
	// gives tells whether the place gives files by their names.
	gives() bool
	// bring gives a commit, or a tag of one, with all it needs and nothing else.
	// What we have is not brought again.
	bring(ctx context.Context, tip unit.Hash, have state) (brought, error)
	// history gives commits that led to one, up to a depth, and perhaps others.
	// Which of them are missing the caller finds out.
	history(ctx context.Context, commit unit.Hash, depth int, have state) (history, error)
}

// brought is a commit with its objects, and the tag that led to it.
type brought struct {
	commit, root unit.Hash
	objects      objects
	names        []unit.Hash // of all files, sorted
	blobless     bool        // the files are not among the objects
}

// giver is a place that gives files by their names.
type giver interface {
	give(ctx context.Context, wants []unit.Hash) (objects, error)
}

// state is what a fetch gave.
type state struct {
	chosen   chosen
	commit   unit.Hash
	objects  objects
	names    []unit.Hash // of all files, sorted
	blobless bool        // files come when they are read
	snapshot unit.Snapshot
}

func (s state) empty() bool { return s.objects == nil }

// small tells that all files are there and are to be.
func (s state) small(most int) bool { return !s.empty() && !s.blobless && len(s.names) <= most }

// whole is nothing where files are missing: what builds on files can't build on
// it.
func (s state) whole() state {
	if s.blobless {
		return state{}
	}
	return s
}
