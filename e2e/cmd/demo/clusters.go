package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const namespace = "capstan-system"

// spokes are the three clusters of the story: two that let the hub label them,
// and one that lets nobody, and asks a person before anything changes.
func (d *demo) spokes(ctx context.Context) ([]stage.SpokeConfig, error) {
	all := []stage.SpokeConfig{
		{Name: "dev", Assignable: []string{"env"}},
		{Name: "staging", Assignable: []string{"env"}},
		{Name: "prod", Labels: map[string]string{"env": "prod"}, NeedsApproval: true},
	}
	if d.kubeconfigs == "" {
		return all, nil
	}
	given := strings.Split(d.kubeconfigs, ",")
	if len(given) != len(all) {
		return nil, fleet.WithHint(fmt.Errorf("DEMO_KUBECONFIGS names %d kubeconfigs, want %d", len(given), len(all)),
			"give one each for dev, staging and prod, with commas between")
	}
	for i, path := range given {
		abs, err := filepath.Abs(strings.TrimSpace(path))
		if err != nil {
			return nil, err
		}
		if err := untouched(ctx, abs); err != nil {
			return nil, err
		}
		all[i].Kubeconfig = abs
	}
	return all, nil
}

// untouched refuses a cluster that has a Capstan of its own: the demo would
// take it over, and remove it in the end.
func untouched(ctx context.Context, kubeconfig string) error {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("DEMO_KUBECONFIGS: %s: %w", kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("DEMO_KUBECONFIGS: %s: %w", kubeconfig, err)
	}
	_, err = client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("DEMO_KUBECONFIGS: %s: %w", kubeconfig, err)
	}
	return fleet.WithHint(fmt.Errorf("%s: the cluster has a namespace %s already", kubeconfig, namespace),
		"the demo leaves an installed Capstan alone; delete the namespace if it is of no use any more")
}

// leave takes the demo off clusters that were there before it.
func (d *demo) leave(s *stage.Stage, spokes []stage.SpokeConfig) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepWithin) // the demo's own has ended
	defer cancel()
	var errs []error
	for _, cfg := range spokes {
		if cfg.Kubeconfig == "" || s.Spoke(cfg.Name) == nil {
			continue
		}
		d.say("taking the demo off %s", cfg.Name)
		_, err := s.Kubectl(ctx, cfg.Name, "", "delete", "deployment,service", "guestbook-ui", "-n", "default", "--ignore-not-found")
		errs = append(errs, err, s.Uninstall(ctx, cfg.Name))
	}
	return errors.Join(errs...)
}
