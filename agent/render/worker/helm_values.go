package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/capstan-gitops/capstan/agent/unit"
)

const valuesHint = `values may hold {{ .cluster.name }} and {{ label "key" }}; write braces that are meant as such as {{ "{{" }}`

// helmValues are the values that go over the chart's own: files, then documents
// from the cluster, then what the App itself says.
func (f *treeFS) helmValues(dir string, h unit.Helm, known facts) (map[string]any, error) {
	values := map[string]any{}
	for _, name := range h.ValuesFiles {
		content, file, err := f.valuesFile(dir, name, known)
		if err != nil {
			return nil, err
		}
		more, err := f.parseValues(file, content)
		if err != nil {
			return nil, err
		}
		values = loader.MergeMaps(values, more)
	}
	for _, d := range h.ValuesFrom {
		if err := checkAliases(d.From, d.Content); err != nil {
			return nil, err
		}
		more, err := f.parseValues(d.From, d.Content)
		if err != nil {
			return nil, err
		}
		f.hide(more)
		if strings.HasPrefix(d.From, "Secret ") { // its values are as secret as decrypted ones
			f.secrets = appendScalars(f.secrets, more)
		}
		values = loader.MergeMaps(values, more)
	}
	inline, err := inlineValues(h.Values, known)
	if err != nil {
		return nil, err
	}
	return loader.MergeMaps(values, inline), nil
}

// valuesFile reads a file that an App names: from the App's path, or from the
// repository's root where the name begins with a slash.
func (f *treeFS) valuesFile(dir, name string, known facts) ([]byte, string, error) {
	filled, err := template{what: "values file " + quote(name), hint: templateHint, exact: true}.fill(name, known)
	if err != nil {
		return nil, "", err
	}
	file := path.Join(dir, filled)
	if path.IsAbs(filled) {
		file = strings.TrimPrefix(path.Clean(filled), "/")
	}
	content, err := f.ReadFile(path.Join(mount, file))
	switch {
	case f.broken != nil || f.refused != nil:
		return nil, "", f.verdict(nil)
	case err != nil:
		return nil, "", &failure{file: file, message: "values file " + file + " is not in the repository", hint: "valuesFiles are relative to the app's path; a leading / is the repository's root"}
	}
	return content, file, nil
}

func (f *treeFS) parseValues(from string, content []byte) (map[string]any, error) {
	values, err := loader.LoadValues(bytes.NewReader(content))
	if err != nil {
		f.hidden = append(f.hidden, wordsOf(string(content))...) // it is not known what in it is a value
		return nil, &failure{file: from, message: from + ": not valid values: " + f.oneLine(err.Error()), hint: "values are a YAML mapping"}
	}
	return values, nil
}

// hide keeps values out of messages: they may be a Secret's.
func (f *treeFS) hide(value any) {
	switch v := value.(type) {
	case map[string]any:
		for _, below := range v {
			f.hide(below)
		}
	case []any:
		for _, below := range v {
			f.hide(below)
		}
	case string:
		if len(v) >= 4 {
			f.hidden = append(f.hidden, v)
		}
		f.hidden = append(f.hidden, wordsOf(v)...)
	case float64:
		if s := fmt.Sprint(v); len(s) >= 4 {
			f.hidden = append(f.hidden, s)
		}
	}
}

// inlineValues reads what the App says and fills in the templates of its strings.
func inlineValues(content []byte, known facts) (map[string]any, error) {
	values := map[string]any{}
	if len(content) == 0 {
		return values, nil
	}
	if err := json.Unmarshal(content, &values); err != nil {
		return nil, &failure{message: "spec.source.helm.values is not an object", hint: "values are a YAML mapping"}
	}
	if _, err := fillValues(values, "spec.source.helm.values", known); err != nil {
		return nil, err
	}
	return values, nil
}

// fillValues fills in every string below a value; keys stay as they are.
func fillValues(value any, at string, known facts) (any, error) {
	var err error
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			if v[key], err = fillValues(below, at+"."+key, known); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, below := range v {
			if v[i], err = fillValues(below, fmt.Sprintf("%s[%d]", at, i), known); err != nil {
				return nil, err
			}
		}
	case string:
		return template{what: at, hint: valuesHint}.fill(v, known)
	}
	return value, nil
}
