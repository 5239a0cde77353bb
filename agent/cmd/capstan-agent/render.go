package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/charts"
	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

type renderOptions struct {
	cluster string
	labels  []string
	root    string
	ageKeys []string

	recurse          bool
	include, exclude []string

	chart chartOptions
}

func newRenderCommand() *cobra.Command {
	var o renderOptions
	cmd := &cobra.Command{
		Use:   "render PATH",
		Short: "Print what an agent would render from a path of a checkout",
		Long: `Print what an agent would render from a path of a checkout.

PATH is a path of the repository, from its root, and may be a template as in an
App: {{ .cluster.name }} and {{ label "key" }}. A path that is there from where
the command is called works too. Without a kustomization file it is a directory
of plain manifests, or a Helm chart if it has a Chart.yaml; --recurse, --include
and --exclude choose among manifests, --values and the other flags of charts make
it one whatever else is in it, as spec.source.helm does. The files are read as they are on disk, committed or not. No cluster is asked, and
images stay as they are: mirrors are a matter of the agent's configuration.
With --age-key, what SOPS encrypted is printed decrypted.`,
		Example: `  capstan-agent render apps/guestbook/overlays/dev
  capstan-agent render 'apps/guestbook/overlays/{{ label "env" }}' --cluster eu-1 --cluster-label env=prod
  capstan-agent render manifests --recurse --exclude '**/tests/**'
  capstan-agent render charts/shop --values values/prod.yaml --namespace store
  capstan-agent render apps/shop --age-key ~/.config/sops/age/keys.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&o.cluster, "cluster", "", "cluster to render for")
	cmd.Flags().StringArrayVar(&o.labels, "cluster-label", nil, "label of the cluster, key=value; may be repeated")
	cmd.Flags().BoolVar(&o.recurse, "recurse", false, "take the plain manifests in directories below too, as spec.source.directory.recurse does")
	cmd.Flags().StringArrayVar(&o.include, "include", nil, "glob of plain manifests to take; may be repeated")
	cmd.Flags().StringArrayVar(&o.exclude, "exclude", nil, "glob of plain manifests to leave out; may be repeated")
	o.chart.flags(cmd)
	cmd.Flags().StringArrayVar(&o.ageKeys, "age-key", nil, "file with age identities that decrypt what SOPS encrypted, or a directory of such files; may be repeated")
	cmd.Flags().StringVar(&o.root, "root", "", "the repository's root (default: the directory above that holds .git)")
	return cmd
}

func (o renderOptions) run(cmd *cobra.Command, path string) (err error) {
	facts, err := o.facts()
	if err != nil {
		return err
	}
	directory, err := o.directory()
	if err != nil {
		return err
	}
	release, helm, err := o.chart.helm(cmd, path)
	if err != nil {
		return err
	}
	if helm != nil && directory != nil {
		return fleet.WithHint(fleet.Invalid("flags of charts and flags of plain manifests are given"), "the path is either: keep one kind of them")
	}
	facts.Kubernetes = o.chart.kubeVersion
	root, path, err := locate(o.root, path)
	if err != nil {
		return err
	}
	var ring unit.KeyRing
	if len(o.ageKeys) > 0 {
		if ring, err = keyring.NewRing(o.ageKeys); err != nil {
			return err
		}
	}
	snapshot, err := source.OpenDirectory(root)
	if err != nil {
		return err
	}
	kept, err := charts.New(charts.Config{})
	if err != nil {
		return err
	}
	renderer, err := render.New(render.Config{Charts: kept})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, renderer.Close()) }()
	rendered, err := renderer.Render(cmd.Context(), unit.RenderRequest{
		Snapshot: snapshot, Path: path, Facts: facts, Directory: directory, Release: release, Helm: helm, Keys: ring,
	})
	if bad := (*unit.RenderError)(nil); errors.As(err, &bad) {
		return fleet.WithHint(err, bad.Hint)
	}
	if away := (*unit.ChartError)(nil); errors.As(err, &away) {
		return fleet.WithHint(err, away.Hint)
	}
	if err != nil {
		return err
	}
	return printObjects(cmd.OutOrStdout(), rendered.Objects)
}

func (o renderOptions) facts() (unit.Facts, error) {
	f := unit.Facts{Cluster: o.cluster, Labels: map[string]string{}}
	if o.cluster != "" {
		if err := fleet.ValidateName("cluster", o.cluster); err != nil {
			return f, err
		}
	}
	for _, l := range o.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return f, fleet.WithHint(fleet.Invalid("--cluster-label %q has no value", l), "write it as key=value")
		}
		if err := fleet.ValidateLabel(key, value); err != nil {
			return f, err
		}
		f.Labels[key] = value
	}
	return f, nil
}

// directory is nil where no flag asks for plain manifests.
func (o renderOptions) directory() (*unit.Directory, error) {
	if !o.recurse && len(o.include)+len(o.exclude) == 0 {
		return nil, nil
	}
	if err := v1alpha1.ValidateGlobs("--include", o.include); err != nil {
		return nil, err
	}
	if err := v1alpha1.ValidateGlobs("--exclude", o.exclude); err != nil {
		return nil, err
	}
	return &unit.Directory{Recurse: o.recurse, Include: o.include, Exclude: o.exclude}, nil
}

// locate finds the repository's root, and the path as seen from there.
func locate(root, path string) (string, string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	start := wd
	abs := filepath.Join(wd, path)
	if filepath.IsAbs(path) {
		abs = filepath.Clean(path)
	}
	here := exists(abs)
	if here {
		start = abs
	}
	if root == "" {
		if root, err = findGit(start); err != nil {
			return "", "", err
		}
	} else if root, err = filepath.Abs(root); err != nil {
		return "", "", err
	}
	if !here { // a template, or seen from the root
		return root, filepath.ToSlash(path), nil
	}
	inside, err := filepath.Rel(root, abs)
	if err != nil {
		return "", "", err
	}
	if inside == ".." || strings.HasPrefix(inside, ".."+string(filepath.Separator)) {
		inside = path // the renderer says what is wrong with it
	}
	return root, filepath.ToSlash(inside), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func findGit(from string) (string, error) {
	for dir := from; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fleet.WithHint(fleet.NotFound("no Git repository at %s or above", from), "call it inside a checkout, or name the repository's root with --root")
		}
	}
}

func printObjects(w io.Writer, objects []unit.Object) error {
	for i, o := range objects {
		text, err := yaml.JSONToYAML(o.JSON)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Ref, err)
		}
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}
