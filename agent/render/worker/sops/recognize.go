package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const metadataKey = "sops"

// Recognize reads a file if SOPS encrypted it. It gives nil for any other file.
// An error, which is an *Error, is about a file that SOPS encrypted and that
// can't be read.
func Recognize(name string, content []byte) (*File, error) {
	if !bytes.Contains(content, []byte(metadataKey)) {
		return nil, nil
	}
	for _, try := range []func(string, []byte) (*File, error){recognizeJSON, recognizeYAML, recognizeDotenv, recognizeINI} {
		if f, err := try(name, content); f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// recognizeJSON takes binary files too: SOPS keeps them in JSON.
func recognizeJSON(name string, content []byte) (*File, error) {
	if t := bytes.TrimLeft(content, " \t\r\n"); len(t) == 0 || t[0] != '{' || isYAMLName(name) {
		return nil, nil
	}
	root, err := readJSON(content)
	if err != nil {
		return nil, nil //nolint:nilerr // no JSON after all
	}
	meta, ok := takeMetadata(root)
	if !ok {
		return nil, nil
	}
	f := &File{documents: []*yaml.Node{root}, format: jsonFormat{}}
	if len(root.Content) == 2 && root.Content[0].Value == "data" && path.Ext(name) != ".json" {
		f.format = binaryFormat{}
	}
	f.meta, err = nodeMetadata(meta)
	return f, err
}

func isYAMLName(name string) bool { return path.Ext(name) == ".yaml" || path.Ext(name) == ".yml" }

func recognizeYAML(_ string, content []byte) (*File, error) {
	d := yaml.NewDecoder(bytes.NewReader(content))
	f := &File{format: yamlFormat{}}
	var meta *yaml.Node
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && meta == nil {
			return nil, nil
		}
		if err != nil {
			return nil, &Error{Message: "it is not valid YAML"}
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := doc.Content[0]
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			root = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		found, ok := takeMetadata(root)
		if !ok && meta == nil {
			return nil, nil
		}
		if root.Kind != yaml.MappingNode {
			return nil, &Error{Line: root.Line, Message: "a document of it is no mapping"}
		}
		if meta == nil {
			meta = found // the first document's counts
		}
		f.documents = append(f.documents, root)
	}
	if meta == nil {
		return nil, nil
	}
	var err error
	f.meta, err = nodeMetadata(meta)
	return f, err
}

// takeMetadata takes what SOPS added out of a document.
func takeMetadata(root *yaml.Node) (*yaml.Node, bool) {
	if root.Kind != yaml.MappingNode {
		return nil, false
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Value != metadataKey || value.Kind != yaml.MappingNode {
			continue
		}
		for j := 0; j+1 < len(value.Content); j += 2 {
			if k := value.Content[j].Value; k == "mac" || k == "lastmodified" {
				root.Content = append(root.Content[:i:i], root.Content[i+2:]...)
				return value, true
			}
		}
	}
	return nil, false
}

func nodeMetadata(n *yaml.Node) (metadata, error) {
	if hasAlias(n, 0) {
		return metadata{}, errMetadata
	}
	var f map[string]any
	if err := n.Decode(&f); err != nil {
		return metadata{}, errMetadata
	}
	return readMetadata(f)
}

// hasAlias tells of aliases, and of what is nested deeper than SOPS writes.
func hasAlias(n *yaml.Node, depth int) bool {
	if n.Kind == yaml.AliasNode || depth > 16 {
		return true
	}
	for _, c := range n.Content {
		if hasAlias(c, depth+1) {
			return true
		}
	}
	return false
}

// readJSON reads an object, in its order.
func readJSON(content []byte) (*yaml.Node, error) {
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	r := jsonReader{d: d, content: content}
	root, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	return root, nil
}

var errNotJSON = errors.New("not a JSON object")

type jsonReader struct {
	d       *json.Decoder
	content []byte
	line    int
	counted int64 // bytes whose lines are counted
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, errNotJSON
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, err
	}
	at := r.d.InputOffset()
	r.line += bytes.Count(r.content[r.counted:at], []byte("\n"))
	r.counted = at
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line + 1}
	switch t := t.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for r.d.More() {
			item, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		_, err = r.d.Token() // its end
		return n, err
	case string:
		n.SetString(t)
		n.Tag, n.Style = "!!str", 0
	case json.Number:
		n.Tag, n.Value = jsonNumber(t)
	case bool:
		err = n.Encode(t)
		n.Line = r.line + 1
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, err
}

// jsonNumber is a number as SOPS takes it: whole where it fits.
func jsonNumber(t json.Number) (tag, value string) {
	if _, err := t.Int64(); err == nil {
		return "!!int", t.String()
	}
	return "!!float", strings.ToLower(t.String())
}
