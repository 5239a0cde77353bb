package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
)

// TestTheAPIServerJudgesAppsAsTheAgentDoes puts every example App to an API
// server with the CRD, and compares its verdict with the decoder's.
func TestTheAPIServerJudgesAppsAsTheAgentDoes(t *testing.T) {
	t.Parallel()
	c := bare(t, "schema")
	apps := withAppCRD(t, c)
	for _, verdict := range []string{"valid", "invalid"} {
		files, err := filepath.Glob(filepath.Join("..", "pkg", "apis", "v1alpha1", "testdata", verdict, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files (%v)", verdict, len(files), err)
		}
		for _, file := range files {
			t.Run(verdict+"/"+strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				doc := readJSON(t, file)
				if _, err := v1alpha1.DecodeApp(doc); (err == nil) != (verdict == "valid") {
					t.Errorf("the decoder says: %v", err)
				}
				if err := dryRun(t, apps, doc); (err == nil) != (verdict == "valid") {
					t.Errorf("the API server says: %v", err)
				}
			})
		}
	}
}

// bare is a control plane without an agent.
func bare(t *testing.T, name string) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Options{
		Binary: programs[build.TestCluster], Dir: filepath.Join(t.TempDir(), "cluster"), Name: name, Nodes: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func readJSON(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := yaml.YAMLToJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// withAppCRD installs the CRD and returns when Apps can be created.
func withAppCRD(t *testing.T, c *cluster.Cluster) dynamic.ResourceInterface {
	t.Helper()
	rest, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	api, err := dynamic.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	var crd unstructured.Unstructured
	if err := crd.UnmarshalJSON(readJSON(t, filepath.Join("..", "manifests", "crds", "capstan.dev_apps.yaml"))); err != nil {
		t.Fatal(err)
	}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	if _, err := api.Resource(crds).Create(t.Context(), &crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	apps := api.Resource(v1alpha1.GroupVersion.WithResource("apps")).Namespace("default")
	p := &play{ctx: t.Context()}
	if _, err := p.retry(untilWithin, func() (string, error) {
		_, err := apps.List(t.Context(), metav1.ListOptions{})
		return "", err
	}); err != nil {
		t.Fatal(err)
	}
	return apps
}

// dryRun gives the API server's refusal of an App, or nil.
func dryRun(t *testing.T, apps dynamic.ResourceInterface, doc []byte) error {
	t.Helper()
	var app unstructured.Unstructured
	if err := app.UnmarshalJSON(doc); err != nil {
		return err
	}
	app.SetNamespace("default")
	_, err := apps.Create(t.Context(), &app, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		t.Fatalf("not a verdict: %v", err)
	}
	return err
}
