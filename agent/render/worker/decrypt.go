package worker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/capstan-gitops/capstan/agent/render/worker/sops"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const sopsHint = "docs/secrets.md says how encrypted files are read"

var errKeyBudget = &failure{message: "the render asks for more keys than the agent gives to one app", hint: "look for bases that include each other many times"}

// decrypt gives what is in a file. One that SOPS did not encrypt is given as it
// is; one that it did is never given encrypted. Every error is a *failure, or
// one of the pipe.
func (f *treeFS) decrypt(name string, content []byte) ([]byte, error) {
	if plain, ok := f.plain[name]; ok {
		return plain, nil
	}
	file, err := sops.Recognize(name, content)
	if err != nil {
		return nil, decryptFailure(name, err)
	}
	if file == nil {
		return content, nil
	}
	if f.keys == nil {
		return nil, &failure{
			file: name, message: name + ": the file is encrypted with SOPS, and the App does not say that it is to be decrypted",
			hint: "set spec.decryption.provider to sops; " + sopsHint,
		}
	}
	plain, err := file.Decrypt(f.keys)
	if err != nil {
		return nil, decryptFailure(name, err)
	}
	if f.plain == nil {
		f.plain = map[string][]byte{}
	}
	f.plain[name] = plain.Content
	f.secrets = append(f.secrets, plain.Values...)
	return plain.Content, nil
}

// decryptFailure names file and place. What the errors say quotes nothing.
func decryptFailure(name string, err error) error {
	if bad, ok := errors.AsType[*sops.Error](err); ok {
		hint := bad.Hint
		if hint == "" {
			hint = sopsHint
		}
		return &failure{file: name, line: bad.Line, message: at(name, bad.Line) + ": can't be decrypted: " + bad.Error(), hint: hint}
	}
	if bad, ok := errors.AsType[*failure](err); ok {
		return &failure{file: name, message: name + ": can't be decrypted: " + bad.message, hint: bad.hint, again: bad.again}
	}
	return err
}

// guardSecrets refuses objects that hold something encrypted still, and marks
// where in the others decrypted values stand.
func (f *treeFS) guardSecrets(objects []unit.Object) error {
	values := newValueFinder(f.secrets)
	for i, o := range objects {
		suspect := bytes.Contains(o.JSON, []byte(sops.CiphertextPrefix)) || bytes.Contains(o.JSON, []byte(encodedCiphertext))
		if !suspect && values == nil {
			continue
		}
		var tree any
		d := json.NewDecoder(bytes.NewReader(o.JSON))
		d.UseNumber()
		if err := d.Decode(&tree); err != nil {
			return &failure{message: o.Ref.String() + ": can't be read again"}
		}
		l := scalars{values: values}
		l.visit("", tree)
		if l.encrypted != "" {
			return &failure{
				message: o.Ref.String() + ": " + l.encrypted + " holds a value that SOPS encrypted, in a file that is not as SOPS writes it",
				hint:    "give the whole file, with its sops metadata, under the name it was encrypted with; " + sopsHint,
			}
		}
		slices.Sort(l.masked)
		objects[i].Masked = slices.Compact(l.masked)
	}
	return nil
}

// appendScalars adds the texts and numbers of a tree.
func appendScalars(all []string, value any) []string {
	switch v := value.(type) {
	case map[string]any:
		for _, below := range v {
			all = appendScalars(all, below)
		}
	case []any:
		for _, below := range v {
			all = appendScalars(all, below)
		}
	case string:
		all = append(all, v)
	case float64:
		all = append(all, strconv.FormatFloat(v, 'f', -1, 64))
	}
	return all
}

// encodedCiphertext is how sops.CiphertextPrefix begins in base64.
const encodedCiphertext = "RU5DW0FFUzI1Nl9HQ00s"

// scalars are an object's scalars.
type scalars struct {
	values    *strings.Replacer
	masked    []string
	encrypted string // where something encrypted stands
}

// shownAlways is what names an object everywhere.
var shownAlways = []string{"/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"}

func (s *scalars) visit(path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			s.visit(path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(k), item)
		}
	case []any:
		for _, item := range v {
			s.visit(path+"/*", item)
		}
	case json.Number:
		s.leaf(path, v.String())
	case string:
		if strings.HasPrefix(v, sops.CiphertextPrefix) || strings.HasPrefix(v, encodedCiphertext) {
			s.encrypted = path
		}
		s.leaf(path, v)
	}
}

func (s *scalars) leaf(path, text string) {
	if s.values != nil && !slices.Contains(shownAlways, path) && s.values.Replace(text) != text {
		s.masked = append(s.masked, path)
	}
}

// Shorter values are in everything.
const (
	minValue = 4
	minLine  = 8 // of a value of several
)

// newValueFinder changes every text that holds a decrypted value, or a line of
// one, as it is or in base64. nil: there is nothing to find.
func newValueFinder(secrets []string) *strings.Replacer {
	seen := map[string]bool{}
	var pairs []string
	add := func(s string) {
		if len(s) >= minValue && !seen[s] {
			seen[s] = true
			pairs = append(pairs, s, "")
		}
	}
	for _, v := range longValues(secrets) {
		add(v)
		quoted := strconv.Quote(v)
		add(quoted[1 : len(quoted)-1])
		if inJSON, err := fleet.Canonical(v); err == nil {
			add(string(inJSON[1 : len(inJSON)-1]))
		}
		for shift := range 3 {
			add(inBase64(v, shift))
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	return strings.NewReplacer(pairs...)
}

// longValues are the values that are looked for: what SOPS encrypted, and the
// lines and settings of what is longer than a line.
func longValues(secrets []string) []string {
	var all []string
	add := func(s string, least int) {
		if s = strings.TrimSpace(s); len(s) >= least && s != "true" && s != "false" && s != "True" && s != "False" {
			all = append(all, s)
		}
	}
	for _, v := range secrets {
		if !strings.Contains(strings.TrimSpace(v), "\n") {
			add(v, minValue)
			continue
		}
		for line := range strings.Lines(v) {
			add(line, minLine)
			if i := strings.IndexAny(line, "=:"); i >= 0 {
				add(strings.Trim(strings.TrimSpace(line[i+1:]), `"'`), minValue)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inBase64 is what of a value is the same in the base64 of any text that has it
// so many bytes after a multiple of three.
func inBase64(v string, shift int) string {
	b := append(make([]byte, shift), v...)
	first := []int{0, 2, 3}[shift]
	last := len(b) * 8 / 6
	return base64.StdEncoding.EncodeToString(b)[first:last]
}
