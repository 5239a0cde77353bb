package stage_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/stage"
)

var programs map[build.Program]string

func TestMain(m *testing.M) {
	var err error
	programs, err = build.MakeAll(context.Background(), nil, build.TestCluster, build.Kubectl, build.Hub, build.CLI)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestWhatJoinPrintsInstallsAnAgentThatMayDoItsWork needs no agent: it asks the
// API server what the agent's ServiceAccount may do.
func TestWhatJoinPrintsInstallsAnAgentThatMayDoItsWork(t *testing.T) {
	ctx := t.Context()
	s, err := stage.New(stage.Config{Dir: filepath.Join(t.TempDir(), "stage"), Programs: programs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.StartGit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.StartHub(ctx); err != nil {
		t.Fatal(err)
	}
	cfg := stage.SpokeConfig{Name: "prod", Labels: map[string]string{"env": "prod"}, NeedsApproval: true}
	if err := s.AddCluster(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(ctx, "prod"); err != nil {
		t.Fatal(err)
	}
	agent := s.Spoke("prod").AgentKubeconfig()
	for question, want := range map[string]string{
		"create deployments -n default":                                           "yes",
		"patch apps.capstan.dev/guestbook --subresource=status -n capstan-system": "yes",
		"create secrets -n capstan-system":                                        "yes",
		"update leases -n capstan-system":                                         "yes",
		"impersonate users":                                                       "no",
		"escalate clusterroles":                                                   "no",
		"bind clusterroles":                                                       "no",
	} {
		args := append([]string{"--kubeconfig", agent, "auth", "can-i"}, strings.Fields(question)...)
		out, err := s.Kubectl(ctx, "prod", "", args...)
		if answer := strings.TrimSpace(out); answer != want {
			t.Errorf("may the agent %s? %q, want %q (%v)", question, answer, want, err)
		}
	}
	out, err := s.Capstan(ctx, "get", "clusters", "-o", "json")
	if err != nil || !strings.Contains(out, `"items"`) {
		t.Errorf("get clusters: %s (%v)", out, err)
	}
}

func TestQuoteIsReadBackByAShell(t *testing.T) {
	s := []string{"plain", "", "two words", "it's", `$HOME "x" \ ;`, "a=b,c:d/e@f"}
	for _, word := range s {
		quoted := stage.Quote(word)
		if out, err := shell(t, "printf %s "+quoted); err != nil || out != word {
			t.Errorf("%s reads back as %q, want %q (%v)", quoted, out, word, err)
		}
	}
}

func shell(t *testing.T, script string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", script).Output()
	return string(out), err
}
