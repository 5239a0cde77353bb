package worker

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// facts hands out what a render may know of the cluster, and notes what was
// asked for.
type facts struct {
	known unit.Facts
	reads *unit.ReadSet
}

func (f facts) cluster() string {
	f.reads.Cluster = f.known.Cluster
	return f.known.Cluster
}

// kubernetes is the API server's version. A chart may ask for it in ways that
// nobody can see, so for every chart it counts.
func (f facts) kubernetes() string {
	f.reads.Kubernetes = f.known.Kubernetes
	if f.known.Kubernetes == "" {
		return kubernetes
	}
	return f.known.Kubernetes
}

func (f facts) label(key string) (string, bool) {
	v, ok := f.known.Labels[key]
	if !ok {
		if !slices.Contains(f.reads.Absent, key) {
			f.reads.Absent = append(f.reads.Absent, key)
		}
		return "", false
	}
	if f.reads.Labels == nil {
		f.reads.Labels = map[string]string{}
	}
	f.reads.Labels[key] = v
	return v, true
}

const templateHint = `a path may hold {{ .cluster.name }} and {{ label "key" }}, nothing else`

// template is a text in which the cluster's facts may stand. Text/template is
// not used: two words are needed, not a language.
type template struct {
	what  string // "path x", for messages
	hint  string
	exact bool // as a path has to be: }} needs its {{, and no value may be empty
}

// fillPath fills a path template in and makes sure that the result stays in the
// repository.
func fillPath(text string, f facts) (string, error) {
	filled, err := template{what: "path " + quote(text), hint: templateHint, exact: true}.fill(text, f)
	if err != nil {
		return "", err
	}
	return cleanPath(filled)
}

func (t template) fail(message string) error {
	return &failure{message: t.what + ": " + message, hint: t.hint}
}

func (t template) fill(text string, f facts) (string, error) {
	var out strings.Builder
	for rest := text; ; {
		before, after, found := strings.Cut(rest, "{{")
		if t.exact && strings.Contains(before, "}}") {
			return "", t.fail("}} without {{")
		}
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		value, tail, err := t.action(after, f)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		rest = tail
	}
}

// action reads what stands between two braces and two braces. A quoted string
// stands for itself: so a text can have braces of its own.
func (t template) action(after string, f facts) (value, tail string, err error) {
	if literal, qerr := strconv.QuotedPrefix(strings.TrimLeft(after, " \t")); qerr == nil && !t.exact {
		rest := strings.TrimLeft(after, " \t")[len(literal):]
		if tail, closed := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "}}"); closed {
			value, err = strconv.Unquote(literal)
			return value, tail, err
		}
	}
	action, tail, closed := strings.Cut(after, "}}")
	if !closed {
		return "", "", t.fail("{{ without }}")
	}
	value, err = t.evaluate(strings.TrimSpace(action), f)
	return value, tail, err
}

func (t template) evaluate(action string, f facts) (string, error) {
	if action == ".cluster.name" {
		if name := f.cluster(); name != "" {
			return name, nil
		}
		return "", &failure{message: t.what + ": the cluster's name is not known", hint: "say which cluster to render for"}
	}
	if arg, ok := strings.CutPrefix(action, "label"); ok && arg != "" && strings.ContainsRune(" \t\"`", rune(arg[0])) {
		if key, err := strconv.Unquote(strings.TrimSpace(arg)); err == nil && key != "" {
			return t.label(key, f)
		}
	}
	return "", t.fail("{{ " + shorten(action) + " }} is not known")
}

func (t template) label(key string, f facts) (string, error) {
	v, ok := f.label(key)
	switch {
	case !ok:
		return "", &failure{
			message: t.what + ": the cluster has no label " + strconv.Quote(key),
			hint:    "label the cluster (capstan label cluster NAME " + key + "=VALUE), or narrow the app's selector to clusters that have it",
		}
	case v == "" && t.exact:
		return "", &failure{
			message: t.what + ": the cluster's label " + strconv.Quote(key) + " is empty",
			hint:    "give the label a value: it is part of a path",
		}
	}
	return v, nil
}

// quote shows a path as it was written, unless that could fool a terminal.
func quote(path string) string {
	if path != "" && strconv.CanBackquote(path) {
		return path
	}
	return strconv.Quote(path)
}

// cleanPath makes a slash path from the repository's root, "" for the root.
func cleanPath(p string) (string, error) {
	if strings.ContainsAny(p, "\\\x00\n\r") {
		return "", &failure{message: "path " + quote(p) + " has characters that no path may have", hint: "use slashes between names"}
	}
	clean := path.Clean("./" + strings.TrimSpace(p))
	switch {
	case path.IsAbs(strings.TrimSpace(p)), clean == "..", strings.HasPrefix(clean, "../"):
		return "", &failure{message: "path " + quote(p) + " leaves the repository", hint: "give a path from the repository's root"}
	case clean == ".":
		return "", nil
	}
	return clean, nil
}
