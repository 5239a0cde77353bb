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

// fillPath fills a path template in and makes sure that the result stays in the
// repository. Text/template is not used: a path needs two words, not a language.
func fillPath(template string, f facts) (string, error) {
	var out strings.Builder
	for rest := template; ; {
		before, after, found := strings.Cut(rest, "{{")
		if strings.Contains(before, "}}") {
			return "", &failure{message: "path " + quote(template) + ": }} without {{", hint: templateHint}
		}
		out.WriteString(before)
		if !found {
			break
		}
		action, tail, closed := strings.Cut(after, "}}")
		if !closed {
			return "", &failure{message: "path " + quote(template) + ": {{ without }}", hint: templateHint}
		}
		value, err := evaluate(template, strings.TrimSpace(action), f)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		rest = tail
	}
	return cleanPath(out.String())
}

func evaluate(template, action string, f facts) (string, error) {
	if action == ".cluster.name" {
		if name := f.cluster(); name != "" {
			return name, nil
		}
		return "", &failure{message: "path " + quote(template) + ": the cluster's name is not known", hint: "say which cluster to render for"}
	}
	if arg, ok := strings.CutPrefix(action, "label"); ok && arg != "" && strings.ContainsRune(" \t\"`", rune(arg[0])) {
		if key, err := strconv.Unquote(strings.TrimSpace(arg)); err == nil && key != "" {
			return labelValue(template, key, f)
		}
	}
	return "", &failure{message: "path " + quote(template) + ": {{ " + action + " }} is not known", hint: templateHint}
}

func labelValue(template, key string, f facts) (string, error) {
	v, ok := f.label(key)
	switch {
	case !ok:
		return "", &failure{
			message: "path " + quote(template) + ": the cluster has no label " + strconv.Quote(key),
			hint:    "label the cluster (capstan label cluster NAME " + key + "=VALUE), or narrow the app's selector to clusters that have it",
		}
	case v == "":
		return "", &failure{
			message: "path " + quote(template) + ": the cluster's label " + strconv.Quote(key) + " is empty",
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
