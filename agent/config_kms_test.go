package agent_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What docs/secrets.md shows is what is read.
func TestKeysAtKeyServicesAreRead(t *testing.T) {
	doc, err := os.ReadFile("../docs/secrets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(doc), "## Keys at AWS, Google, Azure and Vault")
	_, shown, _ = strings.Cut(shown, "```yaml\n")
	shown, _, ok := strings.Cut(shown, "```")
	if !ok {
		t.Fatal("there is no example")
	}
	c, err := agent.ParseConfig("agent.yaml", []byte(whole+shown))
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	k := c.Decryption.KMS
	if len(k.AWS) != 2 || k.AWS[1].Role == "" || len(k.GCP) != 1 || len(k.Azure) != 1 || len(k.Vault) != 1 || k.Vault[0].KeyName != "team-a-*" {
		t.Errorf("got %+v", k)
	}
	for wrong, want := range map[string]string{
		`decryption: {kms: {aws: [{arm: x}]}}`:                                                     `unknown field "arm"`,
		`decryption: {kms: {aws: [{arn: "arn:aws:kms:*"}]}, apps: {matchNames: ["*/*"]}}`:          "decryption.kms.aws[0].arn",
		`decryption: {kms: {gcp: [{resourceID: "projects/acme/*"}]}}`:                              "decryption.apps.matchNames",
		`decryption: {kms: {vault: [{address: "https://v:8200", enginePath: transit, keyName: k}]`: "agent.yaml",
	} {
		c, err := agent.ParseConfig("agent.yaml", []byte(whole+wrong))
		if err == nil {
			err = c.Validate()
		}
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
