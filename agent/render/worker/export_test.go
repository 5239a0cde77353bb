package worker

import "github.com/capstan-gitops/capstan/agent/unit"

// Confine lets a test's process take on what a worker takes on.
var Confine = confine

// Manifests reads a tree as plain manifests without a worker, for fuzzing.
func Manifests(tree unit.Tree, root unit.Hash) ([]unit.Object, string) {
	f := &treeFS{tree: tree, root: root, reads: &unit.ReadSet{Paths: map[string]unit.Read{}}}
	var g gatekeeper
	f.check = g.check
	objects, err := f.manifests("", &unit.Directory{})
	if err != nil {
		return nil, err.Error()
	}
	return objects, ""
}
