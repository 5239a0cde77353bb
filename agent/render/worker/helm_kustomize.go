package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/kustomize/kyaml/yaml/merge2"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Kustomize has Helm's program render charts, and a worker runs no programs. So
// a kustomization's charts are rendered when it is read: kustomize is given the
// kustomization without them, and a resource file, made up, with what they gave.

// inflatedFile is what that file is called, beside its kustomization.
const inflatedFile = ".helmCharts.yaml"

// chartsOf are what a render knows of the kustomizations it has read.
type chartsOf struct {
	known facts
	made  map[string][]byte // files that are not in the repository, by path
	read  []overlay
	busy  bool // with a chart's own files
}

// overlay is a kustomization that was read: what lies below it takes its
// namespace over, for charts.
type overlay struct {
	namespace string
	below     []string
}

// madeUp is a file that is not in the repository.
func (f *treeFS) madeUp(name string) ([]byte, string, bool) {
	if f.charts == nil || len(f.charts.made) == 0 {
		return nil, "", false
	}
	at := strings.TrimPrefix(path.Clean(name), mount+"/")
	b, ok := f.charts.made[at]
	return b, at, ok
}

// withCharts gives a kustomization as kustomize is to read it.
func (f *treeFS) withCharts(file string, content []byte) ([]byte, error) {
	if f.charts == nil || f.charts.busy || !isKustomization(file) {
		return content, nil
	}
	var k types.Kustomization
	if err := yaml.Unmarshal(content, &k); err != nil {
		return content, nil //nolint:nilerr // kustomize reads it too, and its error is the one to show
	}
	namespace := f.enter(path.Dir(file), &k)
	if len(k.HelmCharts)+len(k.HelmChartInflationGenerator) == 0 && k.HelmGlobals == nil {
		return content, nil
	}
	charts, globals := k.HelmCharts, types.HelmGlobals{}
	if k.HelmGlobals != nil {
		globals = *k.HelmGlobals
	}
	if old := k.HelmChartInflationGenerator; len(old) > 0 {
		more, under := types.SplitHelmParameters(old)
		charts = append(charts, more...)
		if k.HelmGlobals == nil {
			globals = under
		}
	}
	var out bytes.Buffer
	for i := range charts {
		if err := f.inflate(file, content, i, charts[i], globals, namespace, &out); err != nil {
			return nil, err
		}
	}
	f.charts.made[path.Join(path.Dir(file), inflatedFile)] = out.Bytes()
	return withoutCharts(content)
}

// enter notes a kustomization, and says which namespace its charts are told.
func (f *treeFS) enter(dir string, k *types.Kustomization) string {
	o := overlay{namespace: k.Namespace}
	//nolint:staticcheck // bases are deprecated, and repositories have them
	for _, r := range slices.Concat(k.Resources, k.Bases, k.Components) {
		if !strings.Contains(r, "\n") {
			o.below = append(o.below, path.Join(dir, r))
		}
	}
	for _, above := range slices.Backward(f.charts.read) {
		if o.namespace == "" && slices.Contains(above.below, dir) {
			o.namespace = above.namespace
			break
		}
	}
	f.charts.read = append(f.charts.read, o)
	return o.namespace
}

// withoutCharts puts the made up file in the charts' place.
func withoutCharts(content []byte) ([]byte, error) {
	var k map[string]any
	if err := yaml.Unmarshal(content, &k); err != nil {
		return nil, &failure{message: "a kustomization can't be read"} // it could be a moment ago
	}
	for _, field := range []string{"helmCharts", "helmGlobals", "helmChartInflationGenerator"} {
		delete(k, field)
	}
	resources, _ := k["resources"].([]any)
	k["resources"] = append(resources, inflatedFile)
	return yaml.Marshal(k)
}

var exactVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+(-[-.0-9A-Za-z]+)?([+][-.0-9A-Za-z]+)?$`)

// inflate renders one chart, for kustomize to read.
func (f *treeFS) inflate(file string, content []byte, i int, h types.HelmChart, globals types.HelmGlobals, namespace string, out *bytes.Buffer) error {
	fail := func(message, hint string) error {
		line := max(lineOf(content, "name: "+h.Name), lineOf(content, "chartName: "+h.Name))
		return f.refuse(&failure{file: file, line: line, message: fmt.Sprintf("%s: chart %s (helmCharts[%d]): %s", at(file, line), h.Name, i, message), hint: hint})
	}
	if message, hint := unfulfillable(h, globals); message != "" {
		return fail(message, hint)
	}
	check := f.check
	f.check, f.charts.busy = checkAliases, true
	defer func() { f.check, f.charts.busy = check, false }()
	c := inflation{
		fs: f, release: unit.Release{Name: h.ReleaseName, Namespace: h.Namespace}, kubeVersion: h.KubeVersion, apiVersions: h.ApiVersions, skipCRDs: !h.IncludeCRDs,
	}
	if h.SkipHooks {
		c.hooks = unit.HooksIgnore
	}
	if c.release.Namespace == "" {
		c.release.Namespace = namespace
	}
	if c.release.Namespace == "" {
		c.release.Namespace = "default"
	}
	if c.kubeVersion == "" {
		c.kubeVersion = f.charts.known.kubernetes()
	}
	err := f.overlayFiles(&c, path.Dir(file), h, globals)
	if err == nil {
		err = f.overlayValues(&c, path.Dir(file), h)
	}
	var objects []unit.Object
	if err == nil {
		objects, err = c.objects()
	}
	if bad, ok := errors.AsType[*failure](f.verdict(err)); ok {
		return f.refuse(bad)
	}
	if err := f.verdict(err); err != nil {
		return f.fault(err)
	}
	return generated(objects, out)
}

// unfulfillable says what of a chart can't be done here.
func unfulfillable(h types.HelmChart, globals types.HelmGlobals) (message, hint string) {
	switch {
	case h.Name == "" || strings.HasPrefix(h.Name, "-") || strings.ContainsAny(h.Name, "/\\"):
		return "it has no name, or one that no chart can have", "write name: as in its Chart.yaml"
	case h.NameTemplate != "":
		return "nameTemplate is refused", "write releaseName"
	case h.ReleaseName == "":
		return "it has no releaseName", "write releaseName: Helm would make up another one with every render"
	case globals.ConfigHome != "":
		return "configHome is refused: Helm's own configuration is not read", "credentials for charts are in the agent's configuration, under charts"
	case path.IsAbs(globals.ChartHome):
		return "chartHome leaves the repository", "write it relative to the kustomization"
	case !slices.Contains([]string{"", "override", "merge", "replace"}, h.ValuesMerge):
		return fmt.Sprintf("valuesMerge %q is not known", h.ValuesMerge), "override, merge or replace"
	}
	return "", ""
}

// overlayFiles takes the chart below chartHome if it is there, and fetches it otherwise.
func (f *treeFS) overlayFiles(c *inflation, dir string, h types.HelmChart, globals types.HelmGlobals) error {
	home := globals.ChartHome
	if home == "" {
		home = types.HelmDefaultHome
	}
	if h.Version != "" && h.Repo != "" {
		home = path.Join(home, h.Name+"-"+h.Version)
	}
	c.where = path.Join(dir, home, h.Name)
	local := f.IsDir(path.Join(mount, c.where))
	if err := f.verdict(nil); err != nil {
		return err
	}
	var err error
	switch {
	case local:
		c.files, err = f.chartFiles(c.where)
	case h.Repo == "":
		err = &failure{file: c.where, message: "chart " + h.Name + " is not at " + c.where, hint: "commit it there, or name its repo and version"}
	case !exactVersion.MatchString(h.Version):
		err = &failure{file: dir, message: fmt.Sprintf("chart %s: %q is not one exact version", h.Name, h.Version), hint: "write it like 1.2.3: a range would change what runs when somebody publishes something, without a commit"}
	default:
		c.where, c.pinned = h.Name+" "+h.Version, &unit.Chart{Repository: strings.TrimSuffix(h.Repo, "/"), Name: h.Name, Version: h.Version}
		c.files, err = f.fetchChart(*c.pinned)
	}
	return err
}

// overlayValues makes values as kustomize does: one file, which the inline ones
// go over or under, and then the additional files.
func (f *treeFS) overlayValues(c *inflation, dir string, h types.HelmChart) error {
	base, from := []byte(nil), path.Join(c.where, "values.yaml")
	if h.ValuesFile != "" {
		var err error
		if base, from, err = f.valuesFile(dir, h.ValuesFile, facts{}); err != nil {
			return err
		}
	} else if i := slices.IndexFunc(c.files, isValues); i >= 0 {
		base = c.files[i].Data
	}
	if len(h.ValuesInline) > 0 {
		merged, err := mergeInline(base, h)
		if err != nil {
			return c.fail(from, err, "values are a YAML mapping")
		}
		base = merged
	}
	values, err := f.parseValues(from, base)
	if err != nil {
		return err
	}
	for _, name := range h.AdditionalValuesFiles {
		content, file, err := f.valuesFile(dir, name, facts{})
		if err != nil {
			return err
		}
		more, err := f.parseValues(file, content)
		if err != nil {
			return err
		}
		values = loader.MergeMaps(values, more)
	}
	c.values, err = json.Marshal(values)
	return err
}

func mergeInline(base []byte, h types.HelmChart) ([]byte, error) {
	if h.ValuesMerge == "replace" {
		return yaml.Marshal(h.ValuesInline)
	}
	if len(bytes.TrimSpace(base)) == 0 {
		base = []byte("{}")
	}
	theirs, err := kyaml.Parse(string(base))
	if err != nil {
		return nil, err
	}
	inline, err := kyaml.FromMap(h.ValuesInline)
	if err != nil {
		return nil, err
	}
	source, target := inline, theirs
	if h.ValuesMerge == "merge" {
		source, target = theirs, inline
	}
	merged, err := merge2.Merge(source, target, kyaml.MergeOptions{})
	if err != nil || merged == nil {
		return nil, err
	}
	text, err := merged.String()
	return []byte(text), err
}

// generated writes objects for kustomize, marked so that its namespace leaves
// them alone: Helm was told the namespace.
func generated(objects []unit.Object, out *bytes.Buffer) error {
	for _, o := range objects {
		node, err := kyaml.Parse(string(o.JSON))
		if err == nil {
			err = node.PipeE(kyaml.SetAnnotation(konfig.HelmGeneratedAnnotation, "true"))
		}
		if err != nil {
			return err
		}
		text, err := node.String()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "---\n%s", text)
	}
	return nil
}
