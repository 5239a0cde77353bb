package worker

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Kustomize quotes what it could not handle, a patch for example. Whatever may
// be a Secret's value is taken out of a message before it leaves the worker.

const (
	hidden      = "(hidden)"
	maxRedacted = 32 << 10
)

var (
	secretSection = regexp.MustCompile(`^(\s*)(?:- )?["']?(?:data|stringData|literals|value|binaryData)["']?\s*:`)
	quotedJSON    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// redact hides every value that stands in a file that is about Secrets, and the
// content of files that a secretGenerator reads.
func (f *treeFS) redact(text string) string {
	if len(text) > maxRedacted { // cut between words: half a value would not be recognized
		text = text[:1+strings.LastIndexAny(text[:maxRedacted], " \n")]
	}
	values := slices.Concat(f.hidden, longValues(f.secrets))
	for _, file := range f.files {
		switch {
		case !isManifest(file.name):
			if f.feedsSecret(file.name) {
				values = append(values, wordsOf(string(file.content))...)
			}
		case bytes.Contains(file.content, []byte("Secret")) || bytes.Contains(file.content, []byte("secretGenerator")):
			values = append(values, secretValues(string(file.content))...)
		}
	}
	// The longest first: one may be part of another.
	slices.SortFunc(values, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, v := range slices.Compact(values) {
		text = strings.ReplaceAll(text, v, hidden)
	}
	return text
}

func isManifest(name string) bool {
	return isKustomization(name) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".json")
}

// feedsSecret tells whether a kustomization with a secretGenerator names it.
func (f *treeFS) feedsSecret(name string) bool {
	base := name[strings.LastIndexByte(name, '/')+1:]
	for _, file := range f.files {
		if isKustomization(file.name) && bytes.Contains(file.content, []byte("secretGenerator")) && bytes.Contains(file.content, []byte(base)) {
			return true
		}
	}
	return false
}

// secretValues lists the values of data sections, by lines: it must work where
// the file is no YAML.
func secretValues(content string) []string {
	var values []string
	indent := -1
	for line := range strings.Lines(content) {
		line = strings.TrimRight(line, "\r\n")
		depth := len(line) - len(strings.TrimLeft(line, " -"))
		if m := secretSection.FindStringSubmatch(line); m != nil {
			indent = len(m[1])
			_, after, _ := strings.Cut(line, ":")
			values = append(values, wordsOf(after)...)
			continue
		}
		if strings.HasPrefix(strings.TrimSpace(line), "{") { // JSON on a line
			for _, q := range quotedJSON.FindAllString(line, -1) {
				if _, after, data := strings.Cut(line, `ata"`); data && strings.Contains(after, q) {
					values = append(values, strings.Trim(q, `"`))
				}
			}
			continue
		}
		if indent < 0 || strings.TrimSpace(line) == "" {
			continue
		}
		if depth < indent || depth == indent && !strings.HasPrefix(strings.TrimSpace(line), "-") {
			indent = -1
			continue
		}
		_, after, keyed := strings.Cut(line, ": ")
		if i := strings.IndexByte(line, '='); !keyed && i >= 0 {
			after, keyed = line[i+1:], true
		}
		if !keyed {
			after = line
		}
		values = append(values, wordsOf(after)...)
	}
	return values
}

// wordsOf cuts text at white space and quotes. Short words tell nothing, and
// hiding them would hide the message.
func wordsOf(text string) []string {
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n\"'`[]{},", r) })
	return slices.DeleteFunc(words, func(w string) bool { return len(w) < 4 })
}
