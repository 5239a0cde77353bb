package sops

import (
	"bytes"
	"strings"

	"gopkg.in/ini.v1"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const dotenvPrefix = "sops_"

// recognizeDotenv reads lines of NAME=VALUE.
func recognizeDotenv(_ string, content []byte) (*File, error) {
	if !bytes.HasPrefix(content, []byte("sops_mac=")) && !bytes.Contains(content, []byte("\nsops_mac=")) {
		return nil, nil
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	flat := map[string]string{}
	for i, line := range strings.Split(string(content), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, &Error{Line: i + 1, Message: "the line is no NAME=VALUE"}
		}
		value = strings.ReplaceAll(value, `\n`, "\n")
		if rest, own := strings.CutPrefix(name, dotenvPrefix); own {
			flat[rest] = value
			continue
		}
		root.Content = append(root.Content, text(name, i+1), text(value, i+1))
	}
	f := &File{documents: []*yaml.Node{root}, format: dotenvFormat{}}
	var err error
	f.meta, err = readMetadata(unflatten(flat))
	return f, err
}

func text(s string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Line: line}
}

type dotenvFormat struct{}

func (dotenvFormat) emit(documents []*yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	root := documents[0].Content
	for i := 0; i+1 < len(root); i += 2 {
		b.WriteString(root[i].Value + "=" + strings.ReplaceAll(stringOf(root[i+1]), "\n", `\n`) + "\n")
	}
	return b.Bytes(), nil
}

// stringOf is a scalar's value: one that is no text has none of its own.
func stringOf(n *yaml.Node) string {
	var s string
	if n.ShortTag() == "!!binary" && n.Decode(&s) == nil {
		return s
	}
	return n.Value
}

// recognizeINI reads sections of NAME = VALUE.
func recognizeINI(_ string, content []byte) (*File, error) {
	if !bytes.HasPrefix(content, []byte("[sops]")) && !bytes.Contains(content, []byte("\n[sops]")) {
		return nil, nil
	}
	file, err := ini.LoadSources(ini.LoadOptions{AllowNonUniqueSections: true}, content)
	if err != nil {
		return nil, &Error{Message: "it is not a valid INI file"}
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	flat := map[string]string{}
	for _, section := range file.Sections() {
		if section.Name() == metadataKey {
			for _, k := range section.Keys() {
				flat[k.Name()] = strings.ReplaceAll(k.Value(), `\n`, "\n")
			}
			continue
		}
		values := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, k := range section.Keys() {
			values.Content = append(values.Content, text(k.Name(), 0), text(k.Value(), 0))
		}
		root.Content = append(root.Content, text(section.Name(), 0), values)
	}
	if !fieldsOf(flat).isMetadata() {
		return nil, nil
	}
	f := &File{documents: []*yaml.Node{root}, format: iniFormat{}}
	f.meta, err = readMetadata(unflatten(flat))
	return f, err
}

func fieldsOf(flat map[string]string) fields {
	f := fields{}
	for k, v := range flat {
		f[k] = v
	}
	return f
}

type iniFormat struct{}

func (iniFormat) emit(documents []*yaml.Node) ([]byte, error) {
	file := ini.Empty(ini.LoadOptions{AllowNonUniqueSections: true})
	file.DeleteSection(ini.DefaultSection)
	root := documents[0].Content
	for i := 0; i+1 < len(root); i += 2 {
		section, err := file.NewSection(root[i].Value)
		if err != nil {
			return nil, err
		}
		values := root[i+1].Content
		for j := 0; j+1 < len(values); j += 2 {
			if _, err := section.NewKey(values[j].Value, stringOf(values[j+1])); err != nil {
				return nil, err
			}
		}
	}
	var b bytes.Buffer
	_, err := file.WriteTo(&b)
	return b.Bytes(), err
}
