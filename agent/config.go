package agent

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/charts"
	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/tracing"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Config is the agent's configuration. What protects this cluster (approval
// rules, pinned keys, declared labels) is here and nowhere else: neither Git
// nor the hub can take it away.
type Config struct {
	Cluster ClusterConfig `json:"cluster"`
	Source  SourceConfig  `json:"source"`
	// Repositories are others that Apps may name, and how they are read; none:
	// Apps may name any over http, https and ssh.
	Repositories []RepositoryConfig `json:"repositories,omitempty"`
	Hub          HubConfig          `json:"hub,omitzero"`
	Approval     gate.Config        `json:"approval,omitzero"`
	Prune        PruneConfig        `json:"prune,omitzero"`
	Render       RenderConfig       `json:"render,omitzero"`
	Images       images.Config      `json:"images,omitzero"`

	// Health are checks for the objects of all apps; an App's own come before them.
	Health []health.Check `json:"health,omitempty"`

	// Charts are the places charts may come from; none: any, over TLS.
	Charts []charts.Entry `json:"charts,omitempty"`

	Decryption keyring.Config `json:"decryption,omitzero"`
	Tracing    tracing.Config `json:"tracing,omitzero"`

	// ApplyAs says as whom apps are applied.
	ApplyAs reconcile.ApplyAs `json:"applyAs,omitzero"`

	// Namespace is the agent's own: its state, its Lease, and the Apps that name
	// no namespace.
	Namespace string `json:"namespace,omitempty"`
	// Listen is where /healthz, /readyz and /metrics are served; empty: nowhere.
	Listen string `json:"listen,omitempty"`
	// Kubeconfig is a file; empty: the pod's ServiceAccount.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Workers is how many apps are worked on at once.
	Workers int `json:"workers,omitempty"`
}

// ClusterConfig says which cluster this is.
type ClusterConfig struct {
	Name string `json:"name"`
	// Labels are declared: the hub can't change them.
	Labels map[string]string `json:"labels,omitempty"`
	// AssignableLabels are the keys the hub may assign here.
	AssignableLabels []string `json:"assignableLabels,omitempty"`
}

// HubConfig says how to reach the hub. Without it the agent works alone.
type HubConfig struct {
	// TokenFile holds a join token. It may go away once the agent has joined.
	TokenFile string          `json:"tokenFile,omitempty"`
	Heartbeat metav1.Duration `json:"heartbeat,omitzero"`
	// May is what people may have the hub do to apps here: suspend, rollback.
	// Absent: roll back, and suspend those whose plans need no approval.
	May []fleet.HoldKind `json:"may,omitempty"`
}

// PruneConfig bounds what may be pruned without a confirmation.
type PruneConfig struct {
	MaxObjects int `json:"maxObjects,omitempty"`
	MaxPercent int `json:"maxPercent,omitempty"`
}

// RenderConfig bounds the worker that renders.
type RenderConfig struct {
	MemoryMiB int64           `json:"memoryMiB,omitempty"`
	Timeout   metav1.Duration `json:"timeout,omitzero"`
}

// ParseConfig reads a configuration file. Unknown fields are errors. name is
// used in messages.
func ParseConfig(name string, data []byte) (Config, error) {
	var c Config
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		message := err.Error()
		for _, layer := range []string{"error unmarshaling JSON: ", "while decoding JSON: ", "error converting YAML to JSON: ", "json: "} {
			message = strings.TrimPrefix(message, layer)
		}
		return Config{}, fleet.WithHint(fleet.Invalid("%s: %s", name, message), "docs/agent.md lists every field")
	}
	return c, nil
}

// Override takes single values from the environment: CAPSTAN_AGENT_<FIELD>.
func (c *Config) Override(lookup func(string) (string, bool)) error {
	for name, field := range map[string]*string{
		"CLUSTER_NAME": &c.Cluster.Name, "SOURCE_URL": &c.Source.URL, "SOURCE_BRANCH": &c.Source.Branch, "SOURCE_PATH": &c.Source.Path,
		"HUB_TOKEN_FILE": &c.Hub.TokenFile, "NAMESPACE": &c.Namespace, "LISTEN": &c.Listen, "KUBECONFIG": &c.Kubeconfig,
	} {
		if v, ok := lookup("CAPSTAN_AGENT_" + name); ok {
			*field = v
		}
	}
	if v, ok := lookup("CAPSTAN_AGENT_SOURCE_POLL_INTERVAL"); ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fleet.Invalid("CAPSTAN_AGENT_SOURCE_POLL_INTERVAL: %q is not a duration like 30s", v)
		}
		c.Source.PollInterval.Duration = d
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.Source.Branch == "" && c.Source.Ref.IsZero() {
		c.Source.Branch = "main"
	}
	if c.Source.PollInterval.Duration == 0 {
		c.Source.PollInterval.Duration = time.Minute
	}
	if c.Namespace == "" {
		c.Namespace = "capstan-system"
	}
	if c.Prune.MaxObjects == 0 {
		c.Prune.MaxObjects = inventory.DefaultGuard.MaxObjects
	}
	if c.Prune.MaxPercent == 0 {
		c.Prune.MaxPercent = inventory.DefaultGuard.MaxPercent
	}
	if c.Workers == 0 {
		c.Workers = 16
	}
}

// Validate checks the configuration as a whole; each error names the field.
func (c *Config) Validate() error {
	if err := fleet.ValidateName("cluster.name: cluster", c.Cluster.Name); err != nil {
		return err
	}
	if err := fleet.ValidateName("namespace: namespace", c.Namespace); err != nil {
		return err
	}
	if err := fleet.ValidateLabels(c.Cluster.Labels); err != nil {
		return fmt.Errorf("cluster.labels: %w", err)
	}
	for _, k := range c.Cluster.AssignableLabels {
		if err := fleet.ValidateLabel(k, ""); err != nil {
			return fmt.Errorf("cluster.assignableLabels: %w", err)
		}
	}
	if err := c.Source.validate(); err != nil {
		return err
	}
	named := c.sources(false)
	if err := named.Validate(); err != nil {
		return err
	}
	if err := c.validateLimits(); err != nil {
		return err
	}
	if _, err := images.New(c.Images); err != nil {
		return err
	}
	if _, err := charts.New(charts.Config{Entries: c.Charts}); err != nil {
		return err
	}
	if err := c.Decryption.Validate(); err != nil {
		return err
	}
	if _, err := c.checks(); err != nil {
		return err
	}
	if err := c.ApplyAs.Validate(); err != nil {
		return err
	}
	if err := c.Tracing.Validate(); err != nil {
		return err
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return fleet.WithHint(fleet.Invalid("listen: %q is not host:port", c.Listen), `write it like ":8080"`)
		}
	}
	return nil
}

// checks are those for all apps.
func (c *Config) checks() (*health.Checks, error) {
	checks, err := new(health.Compiler).Compile(c.Health)
	if err != nil {
		return nil, fmt.Errorf("health%w", err)
	}
	return checks, nil
}

// validateLimits refuses what would silently become a default.
func (c *Config) validateLimits() error {
	if c.Prune.MaxObjects < 0 || c.Prune.MaxPercent < 0 || c.Prune.MaxPercent > 100 {
		return fleet.Invalid("prune: maxObjects must not be negative, maxPercent is between 0 and 100")
	}
	if c.Render.MemoryMiB < 0 || c.Render.Timeout.Duration < 0 {
		return fleet.Invalid("render: memoryMiB and timeout must not be negative")
	}
	if c.Workers < 0 {
		return fleet.Invalid("workers: %d is negative", c.Workers)
	}
	for _, kind := range c.Hub.May {
		if kind != fleet.HoldSuspend && kind != fleet.HoldRollback {
			return fleet.Invalid("hub.may: %q is not one of %s, %s", kind, fleet.HoldSuspend, fleet.HoldRollback)
		}
	}
	return nil
}

// joinToken reads the token, where there is one to read. A file that is gone is
// no error: the agent may have joined long ago.
func (c HubConfig) joinToken() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.TokenFile)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("hub.tokenFile: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
