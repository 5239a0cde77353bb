// Package manifests holds what is installed into clusters, as Kustomize bases
// that are also embedded here, so that `capstan join` renders from them without
// a network and without Kustomize.
package manifests

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Files are the agent's manifests and the CRDs, as in this directory. The
// kustomization.yaml files among them list resources and do nothing else.
//
//go:embed agent crds
var Files embed.FS

// Mode is what the agent runs as.
type Mode string

const (
	Deployment Mode = "deployment" // two replicas anywhere
	DaemonSet  Mode = "daemonset"  // on control-plane or edge nodes
)

// Agent gives what `kustomize build agent/<mode>` would: CRDs, namespace,
// ServiceAccount, RBAC and the workload, as one YAML stream in an order in which
// it can be applied. What differs from cluster to cluster is not in it: the
// ConfigMap capstan-agent, and the Secrets capstan-join and capstan-git.
// A mode that is not known is fleet.ErrInvalid.
func Agent(mode Mode) ([]byte, error) {
	if mode != Deployment && mode != DaemonSet {
		return nil, fleet.WithHint(fleet.Invalid("the agent does not run as %q", mode),
			fmt.Sprintf("choose %s or %s", Deployment, DaemonSet))
	}
	var out bytes.Buffer
	if err := build(&out, path.Join("agent", string(mode))); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// appsRole is the ClusterRole, and its binding, that let the agent do everything.
const appsRole = "capstan-agent-apps"

// AgentWithoutClusterAdmin is Agent for a cluster on which the agent may do
// nothing to what apps hold, and see it only: in place of ClusterRole
// capstan-agent-apps it has capstan-agent-watch. Whom it may act as is not in it.
func AgentWithoutClusterAdmin(mode Mode) ([]byte, error) {
	all, err := Agent(mode)
	if err != nil {
		return nil, err
	}
	var out, watch bytes.Buffer
	if err := build(&watch, "agent/watch"); err != nil {
		return nil, err
	}
	for doc := range strings.SplitSeq("\n"+string(all), "\n---\n") {
		var o struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			return nil, fmt.Errorf("embedded manifests: %w", err)
		}
		if o.Kind == "" || o.Metadata.Name == appsRole {
			continue
		}
		if o.Kind == "Deployment" || o.Kind == "DaemonSet" {
			out.Write(watch.Bytes()) // before what is to have it
		}
		out.WriteString("---\n" + strings.TrimPrefix(doc, "\n") + "\n")
	}
	return out.Bytes(), nil
}

// build appends the resources of a kustomization, depth first.
func build(out *bytes.Buffer, dir string) error {
	b, err := Files.ReadFile(path.Join(dir, "kustomization.yaml"))
	if err != nil {
		return err
	}
	var k struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(b, &k); err != nil {
		return fmt.Errorf("%s/kustomization.yaml: %w", dir, err)
	}
	for _, r := range k.Resources {
		p := path.Join(dir, r)
		if path.Ext(p) == "" {
			if err := build(out, p); err != nil {
				return err
			}
			continue
		}
		b, err := Files.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(b, []byte("---\n")) {
			out.WriteString("---\n")
		}
		out.Write(b)
	}
	return nil
}
