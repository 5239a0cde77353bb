package worker

import (
	"bytes"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Kustomize expands every alias of a YAML file, and a few lines can stand for
// more nodes than there is memory.
const (
	maxExpanded = 100_000 // nodes, below which nobody cares
	maxGrowth   = 4       // times the nodes that are written
)

func checkAliases(file string, content []byte) error {
	if tooManyAliases(content, 2) {
		return &failure{file: file, message: file + ": the YAML's aliases expand to too much", hint: "write the repeated parts out, or use fewer anchors"}
	}
	return nil
}

// tooManyAliases looks into strings too, as deep as asked: patches are YAML in
// a string.
func tooManyAliases(content []byte, depth int) bool {
	if depth == 0 || bytes.IndexByte(content, '&') < 0 || bytes.IndexByte(content, '*') < 0 {
		return false
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		if err := d.Decode(&doc); err != nil {
			return false // not YAML after all, or kustomize will say so
		}
		e := expansion{sizes: map[*yaml.Node]int{}}
		if total := e.of(&doc); total > maxExpanded && total > maxGrowth*e.written {
			return true
		}
		for _, s := range e.inner {
			if tooManyAliases([]byte(s), depth-1) {
				return true
			}
		}
	}
}

type expansion struct {
	sizes   map[*yaml.Node]int
	written int
	inner   []string
}

const beyond = 1 << 40

// of counts the nodes that n stands for. One that holds itself counts as beyond
// all bounds.
func (e *expansion) of(n *yaml.Node) int {
	if size, ok := e.sizes[n]; ok {
		return size
	}
	e.sizes[n] = beyond
	e.written++
	size := 1
	if n.Kind == yaml.AliasNode {
		size = e.of(n.Alias)
	}
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") {
		e.inner = append(e.inner, n.Value)
	}
	for _, c := range n.Content {
		size = min(size+e.of(c), beyond)
	}
	e.sizes[n] = size
	return size
}
