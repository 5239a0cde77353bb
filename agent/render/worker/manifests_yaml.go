package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// readYAML takes a file's documents. Values mean what they mean to kustomize,
// so that a kustomization over the same files changes nothing.
func (m *manifests) readYAML(name string, content []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(content))
	for n := 1; ; n++ {
		p := document{file: name, number: n}
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return m.notYAML(p, err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := doc.Content[0]
		p.line = root.Line
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			continue
		}
		if root.Kind != yaml.MappingNode {
			return p.fail("not a Kubernetes object", excludeHint)
		}
		if err := m.addYAML(p, root); err != nil {
			return err
		}
	}
}

func (m *manifests) addYAML(p document, root *yaml.Node) error {
	var value map[string]any
	if err := root.Decode(&value); err != nil {
		return m.notYAML(p, err)
	}
	if key := oddKey(root); key != nil {
		p.line = key.Line
		return p.fail("a key is not a string", `put it in quotes: "1": x`)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return p.fail("can't be written as JSON", "look for numbers such as .inf")
	}
	return m.add(p, raw)
}

// oddKey finds a key that JSON can't have. Aliases lead to nodes that are
// visited where they stand.
func oddKey(n *yaml.Node) *yaml.Node {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			k := c
			if k.Kind == yaml.AliasNode {
				k = k.Alias
			}
			if tag := k.ShortTag(); k.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!merge" {
				return c
			}
			continue
		}
		if odd := oddKey(c); odd != nil {
			return odd
		}
	}
	return nil
}

// notYAML words an error of the decoder, whose text may quote what it read.
func (m *manifests) notYAML(p document, err error) error {
	reason := m.yamlReason(&p, err, 0)
	return p.fail("not valid YAML: "+reason, "mend the file: nothing of this app changes until it can be read")
}

// yamlReason gives the decoder's reason, and its line to p. The decoder may have
// read the file from a line on.
func (m *manifests) yamlReason(p *document, err error, before int) string {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	var several *yaml.TypeError
	if errors.As(err, &several) && len(several.Errors) > 0 {
		reason = several.Errors[0]
	}
	reason = anchorNamed.ReplaceAllString(reason, "an alias names an anchor that is not there")
	if at := yamlLine.FindStringSubmatchIndex(reason); at != nil {
		p.line, _ = strconv.Atoi(reason[at[2]:at[3]])
		p.line += before
		reason = reason[:at[0]] + reason[at[1]:]
	}
	return shorten(m.fs.redact(reason))
}
