package worker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// fetcher gets something of a place where charts are kept, through the parent.
type fetcher func(unit.ChartFile) ([]byte, error)

const againHint = "an agent tries again by itself; check the chart's name, version and repository"

// fetchChart gets a chart at its one version. All that is wrong with it may be
// mended where it is kept, so it is worth another try.
func (f *treeFS) fetchChart(c unit.Chart) ([]*archive.BufferedFile, error) {
	packed, err := f.packed(c)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(packed)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if c.Digest != "" && c.Digest != digest {
		return nil, unfit(c, "its archive is "+digest+", and "+c.Digest+" is wanted", "somebody put another chart in its place, or the digest is of another version")
	}
	if f.reads.Charts == nil {
		f.reads.Charts = map[string]string{}
	}
	f.reads.Charts[c.String()] = digest
	u := unpacking{where: c.Name + " " + c.Version, bytes: maxChartBytes, entries: maxChartFiles}
	files, err := u.archive("", packed)
	if err == nil {
		files, err = u.all(files, 0)
	}
	if bad, ok := err.(*failure); ok { //nolint:errorlint // it is made right there
		bad.again = true
	}
	return files, err
}

func unfit(c unit.Chart, message, hint string) error {
	return &failure{message: c.Name + " " + c.Version + " of " + withoutUser(c.Repository) + ": " + message, hint: hint, again: true}
}

// get asks the parent, and keeps its failure aside.
func (f *treeFS) get(file unit.ChartFile) ([]byte, error) {
	if f.fetch == nil {
		return nil, f.fault(errLost)
	}
	b, err := f.fetch(file)
	if err != nil {
		return nil, f.fault(err)
	}
	return b, nil
}

func (f *treeFS) packed(c unit.Chart) ([]byte, error) {
	if strings.HasPrefix(c.Repository, "oci://") {
		return f.packedInRegistry(c)
	}
	index, err := f.get(unit.ChartFile{Kind: unit.ChartIndex, Repository: c.Repository})
	if err != nil {
		return nil, err
	}
	entry, err := indexed(c, index)
	if err != nil {
		return nil, err
	}
	at, err := archiveURL(c, entry.URLs)
	if err != nil {
		return nil, err
	}
	digest := entry.Digest
	if digest != "" && !strings.Contains(digest, ":") {
		digest = "sha256:" + digest
	}
	return f.get(unit.ChartFile{Kind: unit.ChartArchive, Repository: c.Repository, Name: c.Name, Ref: at, Digest: strings.ToLower(digest)})
}

// indexEntry is one version in an index.
type indexEntry struct {
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
	Digest  string   `json:"digest"`
}

// maxWholeIndex bounds an index that has to be read whole.
const maxWholeIndex = 4 << 20

// indexed finds a version in an index. The index may be large, and of it one
// chart's part is needed: that is cut out before YAML is made of it, as Helm
// writes it; what is written otherwise is read whole, if it is small.
func indexed(c unit.Chart, index []byte) (indexEntry, error) {
	part := cutIndex(index, c.Name)
	if part == nil {
		if part = index; len(index) > maxWholeIndex {
			return indexEntry{}, unfit(c, "the chart is not in the repository's index", againHint)
		}
	}
	if tooManyAliases(part, 1) {
		return indexEntry{}, unfit(c, "the index's aliases expand to too much", againHint)
	}
	var read struct {
		Entries map[string][]indexEntry `json:"entries"`
	}
	if err := yaml.Unmarshal(part, &read); err != nil {
		return indexEntry{}, unfit(c, "the repository's index is not valid", againHint)
	}
	versions, ok := read.Entries[c.Name]
	if !ok {
		return indexEntry{}, unfit(c, "the chart is not in the repository's index", againHint)
	}
	for _, v := range versions {
		if sameVersion(v.Version, c.Version) {
			return v, nil
		}
	}
	return indexEntry{}, unfit(c, "the repository's index has no such version", againHint)
}

// cutIndex takes one chart's part out of an index in Helm's own layout; nil
// where it is not found so.
func cutIndex(index []byte, name string) []byte {
	head := regexp.MustCompile(`(?m)^([ ]+)["']?` + regexp.QuoteMeta(name) + `["']?:[ ]*\r?\n`)
	at := head.FindSubmatchIndex(index)
	if at == nil || !bytes.Contains(index[:at[0]], []byte("entries:")) {
		return nil
	}
	indent := at[3] - at[2]
	end := at[1]
	for end < len(index) {
		line, _, _ := bytes.Cut(index[end:], []byte("\n"))
		text := bytes.TrimLeft(line, " ")
		depth := len(line) - len(text)
		if len(bytes.TrimSpace(text)) > 0 && (depth < indent || depth == indent && text[0] != '-') {
			break
		}
		end = min(end+len(line)+1, len(index))
	}
	return append([]byte("entries:\n"), index[at[0]:end]...)
}

// sameVersion tells whether two versions are one: with or without a v.
func sameVersion(a, b string) bool { return strings.TrimPrefix(a, "v") == strings.TrimPrefix(b, "v") }

func archiveURL(c unit.Chart, urls []string) (string, error) {
	if len(urls) == 0 {
		return "", unfit(c, "the repository's index does not say where its archive is", againHint)
	}
	base, err := url.Parse(strings.TrimSuffix(c.Repository, "/") + "/")
	if err != nil {
		return "", unfit(c, "the repository's URL can't be read", "")
	}
	at, err := base.Parse(urls[0])
	if err != nil || at.Host == "" {
		return "", unfit(c, "the repository's index names no place for its archive", againHint)
	}
	return at.String(), nil
}

// chartLayers are the media types of a packed chart, the old one last.
var chartLayers = []string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"}

// packedInRegistry reads a chart's manifest, which names the layer that is its archive.
func (f *treeFS) packedInRegistry(c unit.Chart) ([]byte, error) {
	tag := strings.ReplaceAll(c.Version, "+", "_") // a tag may hold no +
	raw, err := f.get(unit.ChartFile{Kind: unit.ChartManifest, Repository: c.Repository, Name: c.Name, Ref: tag})
	if err != nil {
		return nil, err
	}
	var manifest struct {
		Layers []struct {
			MediaType string `json:"mediaType"`
			Digest    string `json:"digest"`
		} `json:"layers"`
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return nil, unfit(c, "its manifest is not valid JSON", againHint)
	}
	for _, want := range chartLayers {
		for _, layer := range manifest.Layers {
			if layer.MediaType == want {
				return f.get(unit.ChartFile{Kind: unit.ChartLayer, Repository: c.Repository, Name: c.Name, Ref: layer.Digest})
			}
		}
	}
	return nil, unfit(c, fmt.Sprintf("what the registry has there is no Helm chart: %d layers", len(manifest.Layers)), againHint)
}
