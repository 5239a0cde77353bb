package worker

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

func isKustomization(file string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(file))
}

// gatekeeper looks at every file before kustomize does.
type gatekeeper struct {
	ownSchema bool // a kustomization brings an OpenAPI schema, which kustomize keeps in a global
}

func (g *gatekeeper) check(file string, content []byte) error {
	if bytes.HasPrefix(content, []byte(lfsPointer)) {
		return &failure{
			file: file, message: file + " is a Git LFS pointer: the file itself is not in the repository",
			hint: "take the file out of LFS (git lfs untrack, then commit it again): objects are small enough for Git",
		}
	}
	if err := checkAliases(file, content); err != nil {
		return err
	}
	if !isKustomization(file) {
		return nil
	}
	if bytes.Contains(content, []byte("openapi")) || bytes.Contains(content, []byte("crds")) {
		g.ownSchema = true
	}
	var k types.Kustomization
	if err := yaml.Unmarshal(content, &k); err != nil {
		return nil //nolint:nilerr // kustomize reads it too, and its error is the one to show
	}
	return checkKustomization(file, content, &k)
}

// lfsPointer begins a file whose content Git LFS keeps elsewhere.
const lfsPointer = "version https://git-lfs.github.com/spec/"

const (
	helmRefused = "a HelmChartInflationGenerator among the generators is refused"
	helmHint    = "name the chart in helmCharts of the kustomization"
)

// checkKustomization refuses what would leave the repository, by name and line
// where kustomize's own words would be about git or a transport.
func checkKustomization(file string, content []byte, k *types.Kustomization) error {
	refuse := func(value, message, hint string) error {
		line := lineOf(content, value)
		return &failure{file: file, line: line, message: at(file, line) + ": " + message, hint: hint}
	}
	//nolint:staticcheck // bases are deprecated, and repositories have them
	for _, r := range slices.Concat(k.Resources, k.Bases, k.Components, k.Generators, k.Transformers, k.Validators) {
		if isRemote(r) {
			return refuse(r, fmt.Sprintf("%q: remote bases and files are refused", withoutUser(r)), remoteHint)
		}
	}
	for _, r := range namedFiles(k) {
		if isURL(r) {
			return refuse(r, fmt.Sprintf("%q: remote files are refused", withoutUser(r)), remoteHint)
		}
	}
	return nil
}

// namedFiles lists the files that a kustomization names, other than resources.
func namedFiles(k *types.Kustomization) []string {
	files := slices.Concat(k.Crds, k.Configurations, []string{k.OpenAPI["path"]})
	for _, p := range k.PatchesStrategicMerge { //nolint:staticcheck // deprecated, and still in use
		files = append(files, string(p))
	}
	for _, p := range slices.Concat(k.Patches, k.PatchesJson6902) { //nolint:staticcheck // deprecated, and still in use
		files = append(files, p.Path)
	}
	for _, r := range k.Replacements {
		files = append(files, r.Path)
	}
	source := func(s types.KvPairSources) {
		files = append(files, s.EnvSource)
		files = append(files, s.EnvSources...)
		for _, f := range s.FileSources {
			_, name, keyed := strings.Cut(f, "=")
			if !keyed || isURL(f) {
				name = f
			}
			files = append(files, name)
		}
	}
	for _, g := range k.ConfigMapGenerator {
		source(g.KvPairSources)
	}
	for _, g := range k.SecretGenerator {
		source(g.KvPairSources)
	}
	return files
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// isRemote tells what kustomize would fetch. A resource with a line break in it
// is an inline object.
func isRemote(s string) bool {
	if strings.Contains(s, "\n") {
		return false
	}
	l := strings.ToLower(s)
	for _, prefix := range []string{"git::", "gh:", "github.com/", "github.com:"} {
		if strings.HasPrefix(l, prefix) {
			return true
		}
	}
	user, host, scp := strings.Cut(l, "@")
	return strings.Contains(l, "://") || strings.Contains(l, "?ref=") || strings.Contains(l, "?version=") ||
		scp && !strings.Contains(user, "/") && strings.Contains(host, ":")
}

// withoutUser takes what may be a password out of a URL.
func withoutUser(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	host, tail, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	tail, _, _ = strings.Cut(tail, "?")
	return scheme + "://" + host + "/" + tail
}

// lineOf finds the line that a value stands on, 0 where it is not found.
func lineOf(content []byte, value string) int {
	i := bytes.Index(content, []byte(value))
	if i < 0 || value == "" {
		return 0
	}
	return 1 + bytes.Count(content[:i], []byte("\n"))
}

// at names a place.
func at(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}
