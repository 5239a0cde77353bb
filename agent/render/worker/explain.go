package worker

import (
	"bytes"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// explain says in one sentence, with the repository's own paths, what
// kustomize says in many.
func (f *treeFS) explain(err error) error {
	text := err.Error()
	for _, try := range []func(string) *failure{f.explainSyntax, f.explainNoKustomization, f.explainMissing, f.explainExec} {
		if bad := try(text); bad != nil {
			return bad
		}
	}
	if errors.Is(err, errPanic) {
		return &failure{file: f.lastKustomization(), message: f.lastKustomization() + ": " + text, hint: "look at openapi: and at what changed last; kustomize build says more"}
	}
	return f.explainRest(innermost(text))
}

var (
	fromFile    = regexp.MustCompile(`(?s)^.*resources from '([^'\n]+)': (.*)$`)
	incomplete  = regexp.MustCompile(`(?s)missing (\S+) in object \{\{(\S*) (\S*)\}.*`)
	usesConfig  = regexp.MustCompile("(?s) with config: `.*`")
	anchorNamed = regexp.MustCompile(`unknown anchor '.*' referenced`)
)

// explainRest puts the file that is most likely meant in front of what
// kustomize says.
func (f *treeFS) explainRest(text string) *failure {
	bad := &failure{file: f.lastKustomization(), hint: "kustomize build on a checkout shows the same error"}
	if m := fromFile.FindStringSubmatch(text); m != nil {
		for _, file := range slices.Backward(f.files) {
			if path.Base(file.name) == path.Base(m[1]) {
				bad.file, text = file.name, m[2]
				break
			}
		}
	}
	if m := incomplete.FindStringSubmatch(text); m != nil {
		bad.hint = "every object needs apiVersion, kind and metadata.name"
		text = "an object has no " + m[1]
		if m[3] != "" {
			text = "a " + m[3] + " has no " + m[1]
		}
		if m[1] == "metadata.name" && bytes.Contains(f.content(bad.file), []byte("generateName")) {
			text += ", and metadata.generateName gives a new object each time"
			bad.hint = generateHint
		}
	}
	text = shorten(f.redact(usesConfig.ReplaceAllString(text, "")))
	if bad.message = text; bad.file != "" && !strings.Contains(text, bad.file) {
		bad.message = bad.file + ": " + text
	}
	return bad
}

func (f *treeFS) content(name string) []byte {
	for _, file := range f.files {
		if file.name == name {
			return file.content
		}
	}
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// explainSyntax finds the file that is not YAML.
func (f *treeFS) explainSyntax(text string) *failure {
	var found *failure
	named := false
	for _, file := range slices.Backward(f.files) {
		bad := syntaxError(file)
		if bad == nil {
			continue
		}
		mentioned := strings.Contains(text, path.Base(file.name))
		if found == nil || mentioned && !named {
			found, named = bad, mentioned
		}
	}
	if named || found != nil && (strings.Contains(text, "yaml") || strings.Contains(text, "YAML") || strings.Contains(text, "json")) {
		return found
	}
	return nil
}

func syntaxError(file readFile) *failure {
	switch path.Ext(file.name) {
	case ".yaml", ".yml", ".json":
	default:
		if !isKustomization(file.name) {
			return nil
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(file.content))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			continue
		}
		reason, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
		reason = anchorNamed.ReplaceAllString(reason, "an alias names an anchor that is not there")
		if m := yamlLine.FindStringSubmatchIndex(reason); m != nil {
			line, _ = strconv.Atoi(reason[m[2]:m[3]])
			reason = reason[:m[0]] + reason[m[1]:]
		}
		return &failure{file: file.name, line: line, message: at(file.name, line) + ": not valid YAML: " + reason, hint: "mend the file: nothing of this app changes until it can be read"}
	}
}

var noKustomization = regexp.MustCompile(`unable to find one of 'kustomization.yaml'.* in directory '([^']*)'`)

func (f *treeFS) explainNoKustomization(text string) *failure {
	all := noKustomization.FindAllStringSubmatch(text, -1)
	if all == nil {
		return nil
	}
	dir := shown(all[len(all)-1][1])
	return &failure{file: dir, message: dir + " has no kustomization file", hint: "add a kustomization.yaml that lists the directory's resources"}
}

// explainMissing names the file that is not there and who asked for it.
func (f *treeFS) explainMissing(text string) *failure {
	for _, gone := range slices.Backward(f.missing) {
		if isKustomization(gone) || !strings.Contains(text, path.Join(mount, gone)) {
			continue
		}
		bad := &failure{message: gone + " is not in the repository", hint: "add the file, or take its name out of the kustomization"}
		for _, file := range f.files {
			if !isKustomization(file.name) {
				continue
			}
			for _, name := range []string{relative(path.Dir(file.name), gone), path.Base(gone)} {
				if line := lineOf(file.content, name); line > 0 {
					bad.file, bad.line = file.name, line
					bad.message = at(file.name, line) + ": " + gone + " is not in the repository"
					return bad
				}
			}
		}
		return bad
	}
	return nil
}

func (f *treeFS) explainExec(text string) *failure {
	switch {
	case strings.Contains(text, "no 'git' program"), strings.Contains(text, `exec: "git"`):
		return &failure{file: f.lastKustomization(), message: f.lastKustomization() + ": remote bases are refused", hint: remoteHint}
	case strings.Contains(text, "--enable-helm"):
		return &failure{file: f.lastKustomization(), message: f.lastKustomization() + ": " + helmRefused, hint: helmHint}
	case strings.Contains(text, "plugins disabled"), strings.Contains(text, "function"), strings.Contains(text, "exec:"):
		return &failure{file: f.lastKustomization(), message: f.lastKustomization() + ": plugins and functions are refused", hint: "use kustomize's built-in generators and transformers, or commit what the plugin makes"}
	}
	return nil
}

func (f *treeFS) lastKustomization() string {
	for _, file := range slices.Backward(f.files) {
		if isKustomization(file.name) {
			return file.name
		}
	}
	return ""
}

// relative writes one path as seen from a directory.
func relative(dir, target string) string {
	if dir == "." {
		return target
	}
	up := ""
	for dir != "." && !strings.HasPrefix(target, dir+"/") {
		up, dir = up+"../", path.Dir(dir)
	}
	if dir != "." {
		target = strings.TrimPrefix(target, dir+"/")
	}
	return up + target
}

const maxMessage = 600

// innermost takes kustomize's frames off an error: base in base in base.
func innermost(text string) string {
	const recursed = "recursed accumulation of path '"
	if i := strings.LastIndex(text, recursed); i >= 0 {
		if _, rest, ok := strings.Cut(text[i+len(recursed):], "': "); ok {
			text = rest
		}
	}
	if _, rest, ok := strings.Cut(text, "accumulation err='"); ok {
		if first, _, ok := strings.Cut(rest, "': must build at directory"); ok {
			text = first
		}
	}
	if i := strings.LastIndex(text, "cycle detected"); i >= 0 {
		text = text[i:]
	}
	text = strings.ReplaceAll(text, mount+"/", "")
	return strings.TrimSpace(strings.ReplaceAll(text, mount, "."))
}

// shorten cuts a text to what a message may have.
func shorten(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "..."
}
