package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/manifests"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The names that the manifests mount.
const (
	namespace         = "capstan-system"
	agentName         = "capstan-agent"
	configDir         = "/etc/capstan/config"
	allowedSignersKey = "allowed_signers"
)

// agentConfig is agent.yaml, as far as join fills it in.
type agentConfig struct {
	Cluster   clusterConfig   `json:"cluster"`
	Source    sourceConfig    `json:"source"`
	Hub       hubConfig       `json:"hub"`
	Approval  *approvalConfig `json:"approval,omitempty"`
	ApplyAs   *applyAsConfig  `json:"applyAs,omitempty"`
	Namespace string          `json:"namespace"`
}

type applyAsConfig struct {
	Required bool   `json:"required,omitempty"`
	Default  string `json:"default,omitempty"`
	Root     string `json:"root,omitempty"`
}

type clusterConfig struct {
	Name             string            `json:"name"`
	Labels           map[string]string `json:"labels,omitempty"`
	AssignableLabels []string          `json:"assignableLabels,omitempty"`
}

type sourceConfig struct {
	URL          string     `json:"url"`
	Mirrors      []string   `json:"mirrors,omitempty"`
	Branch       string     `json:"branch,omitempty"`
	Ref          *refConfig `json:"ref,omitempty"`
	Path         string     `json:"path"`
	PollInterval string     `json:"pollInterval"`

	UsernameFile           string `json:"usernameFile,omitempty"`
	PasswordFile           string `json:"passwordFile,omitempty"`
	TokenFile              string `json:"tokenFile,omitempty"`
	CAFile                 string `json:"caFile,omitempty"`
	CertFile               string `json:"certFile,omitempty"`
	KeyFile                string `json:"keyFile,omitempty"`
	IdentityFile           string `json:"identityFile,omitempty"`
	IdentityPassphraseFile string `json:"identityPassphraseFile,omitempty"`
	KnownHostsFile         string `json:"knownHostsFile,omitempty"`

	Verify *verifyConfig `json:"verify,omitempty"`
}

type refConfig struct {
	Tag    string `json:"tag,omitempty"`
	Semver string `json:"semver,omitempty"`
	Commit string `json:"commit,omitempty"`
}

type verifyConfig struct {
	OpenPGPKeysFile    string `json:"openpgpKeysFile,omitempty"`
	AllowedSignersFile string `json:"allowedSignersFile,omitempty"`
	Mode               string `json:"mode,omitempty"`
}

type hubConfig struct {
	TokenFile string `json:"tokenFile"`
}

type approvalConfig struct {
	Rules              []ruleConfig `json:"rules"`
	AllowedSignersFile string       `json:"allowedSignersFile"`
}

type ruleConfig struct {
	Apps      appsConfig `json:"apps"`
	Approvers []string   `json:"approvers"`
	Quorum    int        `json:"quorum"`
}

type appsConfig struct {
	MatchNames []string `json:"matchNames"`
}

// install is everything that makes a cluster a spoke.
type install struct {
	mode           manifests.Mode
	image          string // empty: as in the manifests
	config         agentConfig
	allowedSigners string
	token          string
	trusted        map[string]string // files beside agent.yaml
	secrets        map[string]string // files of the repository's Secret
	noClusterAdmin bool
	accounts       []account
	watch          []watched
}

type object = map[string]any

// render gives one YAML stream for kubectl apply.
func (in install) render() ([]byte, error) {
	base, err := in.base()
	if err != nil {
		return nil, usageError{err}
	}
	config, err := yaml.Marshal(in.config)
	if err != nil {
		return nil, err
	}
	data := map[string]string{"agent.yaml": string(config)}
	if in.allowedSigners != "" {
		data[allowedSignersKey] = in.allowedSigners
	}
	maps.Copy(data, in.trusted)
	own := []object{
		named("ConfigMap", agentName, "data", data),
		named("Secret", "capstan-join", "stringData", map[string]string{"token": in.token}),
	}
	if len(in.secrets) > 0 {
		own = append(own, named("Secret", "capstan-git", "stringData", in.secrets))
	}
	sum := sha256.Sum256([]byte(data["agent.yaml"] + "\x00" + in.allowedSigners))

	var out bytes.Buffer
	for doc := range strings.SplitSeq("\n"+string(base), "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			return nil, fmt.Errorf("embedded manifests: %w", err)
		}
		if o == nil {
			continue // nothing but comments
		}
		if isWorkload(o) {
			// The pods' volumes first, then the pods.
			for _, mine := range append(in.rights(), own...) {
				if err := write(&out, mine); err != nil {
					return nil, err
				}
			}
			if err := in.fit(o, hex.EncodeToString(sum[:])); err != nil {
				return nil, err
			}
		}
		if err := write(&out, o); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func named(kind, name, field string, data map[string]string) object {
	return object{
		"apiVersion": "v1", "kind": kind, field: data,
		"metadata": object{
			"name": name, "namespace": namespace,
			"labels": object{"app.kubernetes.io/name": agentName, "app.kubernetes.io/part-of": "capstan"},
		},
	}
}

func isWorkload(o object) bool { return o["kind"] == "Deployment" || o["kind"] == "DaemonSet" }

// fit sets the image, and notes the configuration's hash on the pods, so that
// applying another configuration starts them anew.
func (in install) fit(workload object, configHash string) error {
	spec, _ := workload["spec"].(object)
	template, _ := spec["template"].(object)
	meta, _ := template["metadata"].(object)
	podSpec, _ := template["spec"].(object)
	containers, _ := podSpec["containers"].([]any)
	if meta == nil || len(containers) == 0 {
		return fleet.Invalid("embedded manifests: %s %s has no pod template", workload["kind"], agentName)
	}
	annotations, _ := meta["annotations"].(object)
	if annotations == nil {
		annotations = object{}
		meta["annotations"] = annotations
	}
	annotations["capstan.dev/config-sha256"] = configHash
	if in.image == "" {
		return nil
	}
	for _, c := range containers {
		if container, ok := c.(object); ok {
			container["image"] = in.image
		}
	}
	return nil
}

func write(out *bytes.Buffer, o object) error {
	text, err := yaml.Marshal(o)
	if err != nil {
		return err
	}
	out.WriteString("---\n")
	out.Write(text)
	return nil
}
