package sops

import (
	"bytes"
	"encoding/json"
	"errors"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

type yamlFormat struct{}

func (yamlFormat) emit(documents []*yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	for _, doc := range documents {
		if err := e.Encode(doc); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), e.Close()
}

type jsonFormat struct{}

func (jsonFormat) emit(documents []*yaml.Node) ([]byte, error) {
	var flat bytes.Buffer
	if err := writeJSON(&flat, documents[0]); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, flat.Bytes(), "", "\t"); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

func writeJSON(b *bytes.Buffer, n *yaml.Node) error {
	begin, end := byte('{'), byte('}')
	switch n.Kind {
	case yaml.ScalarNode:
		var value any
		if err := n.Decode(&value); err != nil {
			return err
		}
		text, err := json.Marshal(value)
		b.Write(text)
		return err
	case yaml.SequenceNode:
		begin, end = '[', ']'
	}
	b.WriteByte(begin)
	for i, c := range n.Content {
		isValue := n.Kind == yaml.MappingNode && i%2 == 1
		switch {
		case isValue:
			b.WriteByte(':')
		case i > 0:
			b.WriteByte(',')
		}
		if err := writeJSON(b, c); err != nil {
			return err
		}
	}
	b.WriteByte(end)
	return nil
}

// binaryFormat is any file, kept as one string.
type binaryFormat struct{}

func (binaryFormat) emit(documents []*yaml.Node) ([]byte, error) {
	value := documents[0].Content[1]
	if value.Kind != yaml.ScalarNode {
		return nil, errors.New("its data is no string")
	}
	var text string
	err := value.Decode(&text)
	return []byte(text), err
}
