package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
)

const chartFile = "Chart.yaml"

// kubernetes is the version that charts are told of where the cluster's is not known.
const kubernetes = "v1.37.0"

// inflation is one chart on its way to objects.
type inflation struct {
	fs    *treeFS
	where string // names the chart's place in messages: a directory, or name and version
	files []*archive.BufferedFile
	// pinned is the chart that was fetched; nil: it is the repository's.
	pinned *unit.Chart
	// values are those that go over the chart's own, as JSON: templates may
	// change what they are given, so each render gets its own.
	values []byte

	release     unit.Release
	kubeVersion string
	apiVersions []string
	skipCRDs    bool
	hooks       unit.Hooks
}

// helm renders a chart. Every error it gives is a *failure, or f.broken.
func (f *treeFS) helm(dir string, j pipe.Job, known facts) ([]unit.Object, error) {
	f.check = checkAliases
	h := unit.Helm{}
	if j.Helm != nil {
		h = *j.Helm
	}
	c := inflation{
		fs: f, where: dir, release: j.Release, kubeVersion: known.kubernetes(),
		apiVersions: h.APIVersions, skipCRDs: h.SkipCRDs, hooks: h.Hooks,
	}
	if h.ReleaseName != "" {
		c.release.Name = h.ReleaseName
	}
	values, err := f.helmValues(dir, h, known)
	if err == nil {
		c.values, err = json.Marshal(values)
	}
	switch {
	case err != nil:
	case h.Chart != nil:
		c.where, c.pinned = h.Chart.Name+" "+h.Chart.Version, h.Chart
		c.files, err = f.fetchChart(*h.Chart)
	default:
		c.files, err = f.chartFiles(dir)
	}
	var objects []unit.Object
	if err == nil {
		objects, err = c.objects()
	}
	err = f.verdict(err)
	if bad, ok := errors.AsType[*failure](err); ok && len(f.hidden)+len(f.secrets) > 0 {
		bad.message = f.redact(bad.message) // a name may be made of a value
	}
	return objects, err
}

// verdict puts what is wrong with the repository, or with reading it, before
// what somebody made of that.
func (f *treeFS) verdict(err error) error {
	switch {
	case f.broken != nil:
		return f.broken
	case f.refused != nil:
		return f.refused
	}
	return err
}

// objects renders a chart. One that draws lots or looks at the clock is
// rendered a second time: what differs then would differ with every look.
func (c *inflation) objects() (objects []unit.Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			objects, err = nil, &failure{file: c.where, message: c.where + ": Helm failed unexpectedly " + panicPlace(debug.Stack())}
		}
	}()
	fns := newFunctions()
	objects, err = c.render(fns)
	if err != nil || len(fns.unsteady) == 0 {
		return objects, err
	}
	used := fns.used()
	fns.later()
	again, err := c.render(fns)
	if err != nil {
		return nil, err
	}
	if moved := differing(objects, again); len(moved) > 0 {
		return nil, &failure{
			file: c.where, message: fmt.Sprintf("%s: every render gives something else, through %s: %s", c.where, used, shorten(strings.Join(moved, ", "))),
			hint: "have the values say what the chart makes up (a password, a certificate, a date), or name a Secret that exists: what is approved must be what is applied",
		}
	}
	return objects, nil
}

// differing names the objects that two renders do not agree on.
func differing(a, b []unit.Object) []string {
	first := make(map[string]string, len(a))
	for _, o := range a {
		first[o.Ref.String()] = string(o.JSON)
	}
	var moved []string
	for _, o := range b {
		name := o.Ref.String()
		if was, ok := first[name]; !ok || was != string(o.JSON) {
			moved = append(moved, name)
		}
		delete(first, name)
	}
	for name := range first {
		moved = append(moved, name)
	}
	slices.Sort(moved)
	return moved
}

func (c *inflation) render(fns *functions) ([]unit.Object, error) {
	ch, err := c.load()
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	if err := json.Unmarshal(c.values, &values); err != nil {
		return nil, c.fail("values", err, "")
	}
	capabilities, err := c.capabilities(ch)
	if err != nil {
		return nil, err
	}
	if err := chartutil.ProcessDependencies(ch, values); err != nil {
		return nil, c.fail("dependencies", err, "")
	}
	options := common.ReleaseOptions{Name: c.release.Name, Namespace: c.release.Namespace, Revision: 1, IsInstall: true}
	top, err := util.ToRenderValuesWithSchemaValidation(ch, values, options, capabilities, true)
	if err != nil {
		return nil, c.fail("values", err, "")
	}
	if err := c.checkSchema(ch, top["Values"]); err != nil {
		return nil, err
	}
	rendered, err := engine.Engine{CustomTemplateFuncs: fns.table}.RenderWithContext(context.Background(), ch, top)
	if err != nil {
		return nil, c.templateError(ch, err)
	}
	return c.collect(ch, rendered)
}

// load makes a chart of its files.
func (c *inflation) load() (*chart.Chart, error) {
	ch, err := loader.LoadFiles(c.files)
	if err != nil {
		return nil, c.fail("the chart can't be loaded", err, "")
	}
	if p := c.pinned; p != nil && !sameVersion(ch.Metadata.Version, p.Version) {
		return nil, &failure{
			file: c.where, message: fmt.Sprintf("%s: what %s serves is %s %s", c.where, withoutUser(p.Repository), ch.Name(), ch.Metadata.Version),
			hint: "it is for whoever keeps the charts to mend; an agent tries again by itself", again: true,
		}
	}
	sortDependencies(ch)
	if ch.Metadata.Type == "library" {
		return nil, &failure{file: c.where, message: c.where + ": a library chart has no objects of its own", hint: "name a chart that uses it"}
	}
	return ch, c.checkDependencies(ch)
}

// sortDependencies puts subcharts in one order: Helm reads them from a map.
func sortDependencies(ch *chart.Chart) {
	all := slices.Clone(ch.Dependencies())
	slices.SortStableFunc(all, func(a, b *chart.Chart) int {
		return strings.Compare(a.Name()+" "+a.Metadata.Version, b.Name()+" "+b.Metadata.Version)
	})
	ch.SetDependencies(all...)
	for _, d := range all {
		sortDependencies(d)
	}
}

// checkDependencies wants every chart that Chart.yaml names to be there.
func (c *inflation) checkDependencies(ch *chart.Chart) error {
	for _, d := range ch.Metadata.Dependencies {
		there := slices.ContainsFunc(ch.Dependencies(), func(sub *chart.Chart) bool { return sub.Name() == d.Name })
		if !there {
			return &failure{
				file: c.where, message: fmt.Sprintf("%s: dependency %s %s is not in charts/", c.where, d.Name, d.Version),
				hint: "run helm dependency build in the chart's directory, and commit the charts/ directory",
			}
		}
	}
	return nil
}

// capabilities are what a chart may ask about the cluster.
func (c *inflation) capabilities(ch *chart.Chart) (*common.Capabilities, error) {
	caps := *common.DefaultCapabilities
	version, err := common.ParseKubeVersion(c.kubeVersion)
	if err != nil {
		return nil, &failure{file: c.where, message: fmt.Sprintf("%s: %q is no version of Kubernetes", c.where, c.kubeVersion), hint: "write it like v1.37.2"}
	}
	caps.KubeVersion = *version
	caps.APIVersions = slices.Concat(caps.APIVersions, c.apiVersions)
	if want := ch.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, version.String()) {
		return nil, &failure{
			file: c.where, message: fmt.Sprintf("%s: the chart wants Kubernetes %s, and this cluster has %s", c.where, want, version.Version),
			hint: "take another version of the chart, or narrow the app's selector to clusters it is for",
		}
	}
	return &caps, nil
}

func (c *inflation) fail(what string, err error, hint string) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	return &failure{file: c.where, message: c.where + ": " + what + ": " + c.fs.oneLine(err.Error()), hint: hint}
}

// oneLine is a library's error as a status can show it.
func (f *treeFS) oneLine(text string) string {
	return shorten(strings.Join(strings.Fields(f.redact(text)), " "))
}

var templatePlace = regexp.MustCompile(`([^\s()"<>:]+/templates/[^\s()"<>:]+):(\d+)`)

// templateError finds the file and line in an error of a template.
func (c *inflation) templateError(ch *chart.Chart, err error) error {
	text := err.Error()
	bad := &failure{file: c.where, message: c.where + ": " + c.fs.oneLine(text), hint: "helm template shows the same, given the same values"}
	if all := templatePlace.FindAllStringSubmatchIndex(text, -1); all != nil {
		m := all[len(all)-1]
		bad.file = c.fileOf(ch, text[m[2]:m[3]])
		bad.line, _ = strconv.Atoi(text[m[4]:m[5]])
		if len(text) > maxMessage && len(all) > 1 {
			text = text[m[0]:] // where it began, not all the way there
		}
		bad.message = at(bad.file, bad.line) + ": " + c.fs.oneLine(text)
	}
	return bad
}

// fileOf is where a template stands, as people find it: Helm names it after its chart.
func (c *inflation) fileOf(ch *chart.Chart, name string) string {
	return path.Join(c.where, strings.TrimPrefix(name, ch.Name()+"/"))
}
