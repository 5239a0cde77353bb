package render_test

import "github.com/capstan-gitops/capstan/agent/unit/memtree"

// files is a repository, in memory.
type files = memtree.Files

const linkTo = memtree.LinkTo

var (
	snapshot   = memtree.Snapshot
	newMemTree = memtree.New
)
