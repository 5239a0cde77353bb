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

// UnpackChart unpacks an archive with all that is packed in it, for fuzzing.
func UnpackChart(data []byte) (names []string, size int, message string) {
	u := unpacking{bytes: maxChartBytes, entries: maxChartFiles}
	files, err := u.archive("", data)
	if err == nil {
		files, err = u.all(files, 0)
	}
	if err != nil {
		return nil, 0, err.Error()
	}
	for _, f := range files {
		names, size = append(names, f.Name), size+len(f.Data)
	}
	return names, size, ""
}

// Indexed finds a version in an index, for fuzzing.
func Indexed(index []byte, name, version string) (found, message string) {
	e, err := indexed(unit.Chart{Repository: "https://x.example", Name: name, Version: version}, index)
	if err != nil {
		return "", err.Error()
	}
	return e.Version, ""
}
