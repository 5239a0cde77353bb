package notify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// maxFile is the most bytes a configuration may have.
const maxFile = 1 << 20

// Load reads the configuration at path. The error is ErrInvalid, and names the
// line.
func Load(path string) (Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, fmt.Errorf("notifications: %w", err)
	}
	if info.Size() > maxFile {
		return Config{}, fleet.Invalid("notifications: %s is larger than %d bytes", path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("notifications: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a configuration; name is said in errors.
func Parse(name string, data []byte) (Config, error) {
	wrap := func(line int, err error) error {
		out := fmt.Errorf("notifications: %s line %d: %w", name, line, err)
		return fleet.WithHint(out, fleet.Hint(err))
	}
	var f file
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fleet.Invalid("notifications: %s: %s", name, shape(err))
	}
	if err := d.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return Config{}, fleet.Invalid("notifications: %s holds more than one document", name)
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return Config{}, fleet.Invalid("notifications: %s: %s", name, shape(err))
	}
	lines := routeLines(&tree)
	var c Config
	known := map[string]bool{}
	for i, fr := range f.Routes {
		line := 1
		if i < len(lines) {
			line = lines[i]
		}
		r, err := makeRoute(fr)
		if err != nil {
			if fr.Name != "" {
				err = fleet.WithHint(fmt.Errorf("route %q: %w", fr.Name, err), fleet.Hint(err))
			}
			return Config{}, wrap(line, err)
		}
		if known[r.Name] {
			return Config{}, wrap(line, fleet.Invalid("route %q is there twice", r.Name))
		}
		known[r.Name] = true
		c.Routes = append(c.Routes, r)
	}
	return c, nil
}

// quoted is a value in an error of the YAML reader: it may be a secret that was
// written in the wrong place.
var quoted = regexp.MustCompile("`[^`]*`")

func shape(err error) string {
	s := strings.TrimPrefix(err.Error(), "yaml: ")
	s = strings.ReplaceAll(strings.TrimPrefix(s, "unmarshal errors:\n  "), "\n  ", "; ")
	s = quoted.ReplaceAllString(s, "the value")
	return strings.NewReplacer(" in type notify.fileRoute", " in a route", " in type notify.file", "", "into notify.", "into ", "in type notify.", "in ").Replace(s)
}

// routeLines are the lines at which the routes begin.
func routeLines(doc *yaml.Node) []int {
	var out []int
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "routes" {
			continue
		}
		for _, r := range root.Content[i+1].Content {
			out = append(out, r.Line)
		}
	}
	return out
}
