package main

import (
	"os"
	"path"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// chartOptions say what an App's spec and its cluster would say of a chart.
type chartOptions struct {
	releaseName, namespace string
	values, apiVersions    []string
	kubeVersion, hooks     string
	skipCRDs               bool

	chart v1alpha1.AppChart
}

// chartFlags are those that make a path a chart.
var chartFlags = []string{"values", "hooks", "skip-crds", "api-version", "release-name", "chart", "chart-repo", "chart-version"}

func (o *chartOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.releaseName, "release-name", "", "a chart's release name (default: the path's last part; an agent takes the App's name)")
	f.StringVar(&o.namespace, "namespace", "default", "namespace that a chart is told, as spec.targetNamespace")
	f.StringArrayVar(&o.values, "values", nil, "file of values for a chart, in the repository or not; may be repeated, later ones win")
	f.StringArrayVar(&o.apiVersions, "api-version", nil, "API version that a chart may count on besides Kubernetes' own; may be repeated")
	f.StringVar(&o.kubeVersion, "kube-version", "", "version of Kubernetes that a chart is told (default: v1.37.0; an agent takes its cluster's)")
	f.StringVar(&o.hooks, "hooks", "", "what becomes of a chart's hooks: Run, Ignore or Apply (default: Run, which shows them with the others)")
	f.StringVar(&o.chart.Name, "chart", "", "name of a chart that is kept elsewhere; the path is where its values files are then")
	f.StringVar(&o.chart.Repository, "chart-repo", "", "chart repository (https://...) or place in a registry (oci://...) of --chart")
	f.StringVar(&o.chart.Version, "chart-version", "", "one exact version of --chart")
	f.BoolVar(&o.skipCRDs, "skip-crds", false, "leave a chart's crds directory out")
}

// helm is nil where no flag makes the path a chart.
func (o *chartOptions) helm(cmd *cobra.Command, dir string) (unit.Release, *unit.Helm, error) {
	release := unit.Release{Name: path.Base(path.Clean(dir)), Namespace: o.namespace}
	given := false
	for _, name := range chartFlags {
		given = given || cmd.Flags().Changed(name)
	}
	if !given {
		return release, nil, nil
	}
	h := &unit.Helm{ReleaseName: o.releaseName, SkipCRDs: o.skipCRDs, Hooks: unit.Hooks(o.hooks), APIVersions: o.apiVersions}
	if h.Hooks != "" && h.Hooks != unit.HooksRun && h.Hooks != unit.HooksIgnore && h.Hooks != unit.HooksApply {
		return release, nil, fleet.WithHint(fleet.Invalid("--hooks %q is not known", o.hooks), "Run runs hooks; Ignore leaves them out; Apply makes them objects like the others")
	}
	if o.chart != (v1alpha1.AppChart{}) {
		if err := o.chart.Validate("--chart"); err != nil {
			return release, nil, fleet.WithHint(err, "--chart, --chart-repo and --chart-version belong together: "+fleet.Hint(err))
		}
		h.Chart = &unit.Chart{Repository: o.chart.Repository, Name: o.chart.Name, Version: o.chart.Version}
	}
	for _, file := range o.values {
		content, err := os.ReadFile(file)
		if err != nil {
			return release, nil, fleet.WithHint(err, "--values names a file from where the command is called")
		}
		h.ValuesFrom = append(h.ValuesFrom, unit.ValuesDocument{From: file, Content: content})
	}
	return release, h, nil
}
