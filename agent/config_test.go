package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent"
	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const whole = `
cluster: {name: prod, labels: {env: prod}, assignableLabels: [tier]}
source: {url: "https://git.example.com/fleet.git", branch: main, path: clusters/fleet, pollInterval: 30s}
hub: {tokenFile: /etc/capstan/join/token}
approval: {rules: [{apps: {matchNames: ["*/*"]}, approvers: [alice@example.com], quorum: 1}], allowedSignersFile: /etc/capstan/config/allowed_signers}
prune: {maxObjects: 5, maxPercent: 20}
render: {memoryMiB: 128, timeout: 10s}
images: {mirrors: [{from: docker.io, to: registry.example/hub}], paths: [{group: argoproj.io, kind: Rollout, path: spec.template.spec}]}
namespace: capstan-system
listen: ":8080"
`

func TestAWholeConfigurationIsRead(t *testing.T) {
	c, err := agent.ParseConfig("agent.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Cluster.Labels["env"] != "prod" || c.Source.PollInterval.Duration != 30*time.Second || c.Approval.Rules[0].Quorum != 1 || c.Prune.MaxPercent != 20 {
		t.Errorf("got %+v", c)
	}
}

func TestEveryFieldOfTheSourceIsRead(t *testing.T) {
	c, err := agent.ParseConfig("agent.yaml", []byte(strings.Replace(whole, "branch: main", `ref: {semver: 1.x}, mirrors: ["file:///m.git"], certFile: c, keyFile: k,
  proxyURL: "http://proxy:1", identityFile: i, identityPassphraseFile: p, knownHostsFile: h, verify: {openpgpKeysFile: o, allowedSignersFile: a, mode: tag}`, 1)))
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Source; s.Ref.Semver != "1.x" || s.Mirrors[0] != "file:///m.git" || s.CertFile+s.KeyFile+s.IdentityFile+s.IdentityPassphraseFile+s.KnownHostsFile != "ckiph" || s.Verify != (source.Verify{OpenPGPKeysFile: "o", AllowedSignersFile: "a", Mode: "tag"}) {
		t.Errorf("got %+v", s)
	}
}

func TestRepositoriesThatAppsMayNameAreRead(t *testing.T) {
	c, err := agent.ParseConfig("agent.yaml", []byte(whole+`
repositories:
- {url: "https://git.example.com/team/", passwordFile: p}
- {url: "ssh://git.example.com/x", identityFile: i, knownHostsFile: h, mirrors: ["file:///m.git"], verify: {allowedSignersFile: a}}
`))
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Repositories; len(r) != 2 || r[0].PasswordFile != "p" || r[1].IdentityFile+r[1].KnownHostsFile+r[1].Verify.AllowedSignersFile != "iha" || r[1].Mirrors[0] != "file:///m.git" {
		t.Errorf("got %+v", r)
	}
}

func TestAMistakeIsNamed(t *testing.T) {
	for _, tt := range []struct{ name, old, mistake, message string }{
		{"an unknown field", "branch: main", "brunch: main", "brunch"},
		{"a field of the wrong type", "quorum: 1", "quorum: [1]", "quorum"},
		{"no name", "name: prod, ", "", "cluster.name"},
		{"a name that is no DNS label", "name: prod", "name: Prod.1", "cluster.name"},
		{"a label that is not valid", "{env: prod}", `{env: "a b"}`, "cluster.labels"},
		{"a key that is not valid", "[tier]", `["a b"]`, "assignableLabels"},
		{"no repository", `url: "https://git.example.com/fleet.git", `, "", "source.url"},
		{"a branch twice", "branch: main", "branch: main, ref: {tag: v1}", "source.branch and source.ref"},
		{"two refs", "branch: main", "ref: {tag: v1, semver: 1.x}", "source.ref"},
		{"a commit cut short", "branch: main", "ref: {commit: abc}", "source.ref"},
		{"no keys to verify with", "branch: main", "branch: main, verify: {mode: commit}", "source.verify"},
		{"a tag's signature of a branch", "branch: main", "branch: main, verify: {mode: tag, openpgpKeysFile: k}", "source.verify"},
		{"a push that is looked at tomorrow", "pollInterval: 30s", "pollInterval: 30s, pushSpread: 24h", "source.pushSpread"},
		{"a repository of no host", "listen:", "repositories: [{url: \"https://git.example.com*\"}]\nlisten:", "repositories[0]: url"},
		{"a field that entries do not have", "listen:", "repositories: [{url: \"https://git.example.com/x\", branch: main}]\nlisten:", "branch"},
		{"a path out of the repository", "clusters/fleet", "../x", "source.path"},
		{"a poll that never ends", "30s", "1ms", "pollInterval"},
		{"a share over all", "maxPercent: 20", "maxPercent: 120", "maxPercent"},
		{"less memory than none", "memoryMiB: 128", "memoryMiB: -1", "memoryMiB"},
		{"a render that ends before it began", "timeout: 10s", "timeout: -1s", "timeout"},
		{"fewer workers than none", "namespace: capstan-system", "namespace: capstan-system\nworkers: -1", "workers"},
		{"a mirror that is none", "registry.example/hub", "hub", "images.mirrors[0].to"},
		{"a path that is none", "spec.template.spec", "spec//x", "images.paths[0].path"},
		{"an address without a port", `":8080"`, "localhost", "listen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := agent.ParseConfig("agent.yaml", []byte(strings.Replace(whole, tt.old, tt.mistake, 1)))
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("got %v, which does not name %s", err, tt.message)
			}
		})
	}
}

func TestAnUnknownFieldSaysWhereToLook(t *testing.T) {
	_, err := agent.ParseConfig("agent.yaml", []byte("sauce: {}"))
	if err == nil || err.Error() != `agent.yaml: unknown field "sauce"` || fleet.Hint(err) == "" {
		t.Errorf("got %v, hint %q", err, fleet.Hint(err))
	}
}

func TestTheEnvironmentOverridesTheFile(t *testing.T) {
	c, err := agent.ParseConfig("agent.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CAPSTAN_AGENT_CLUSTER_NAME": "edge", "CAPSTAN_AGENT_SOURCE_POLL_INTERVAL": "2s"}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	if err := c.Override(lookup); err != nil {
		t.Fatal(err)
	}
	if c.Cluster.Name != "edge" || c.Source.PollInterval.Duration != 2*time.Second || c.Source.Branch != "main" {
		t.Errorf("got %+v", c)
	}
	env["CAPSTAN_AGENT_SOURCE_POLL_INTERVAL"] = "soon"
	if err := c.Override(lookup); err == nil {
		t.Error("a duration that is none was taken")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(whole)
	f.Add("cluster: [")
	f.Fuzz(func(_ *testing.T, text string) {
		if c, err := agent.ParseConfig("agent.yaml", []byte(text)); err == nil {
			_ = c.Validate()
		}
	})
}
