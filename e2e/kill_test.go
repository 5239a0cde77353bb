package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	kills = 8
	pool  = 30 // objects that the app may have
	least = 21 // objects that it has at least, so that no prune is one for the guard
	// within is how long after a push the agent is killed, at most: about as
	// long as it takes from the start of an agent to the end of its first apply.
	within = 2500 * time.Millisecond
)

// churn is an app of ConfigMaps that are others with each revision.
type churn struct {
	*stage.Stage
	random   *rand.Rand
	revision int
	wanted   map[string]string // name -> text
}

// TestAnAgentMayBeKilledAtAnyMoment kills agents while they apply and prune one
// revision after the other. What is there in the end is what the last revision
// says; what the agent thinks it owns is there; and nothing else was touched.
func TestAnAgentMayBeKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx := t.Context()
	s, err := stage.New(stage.Config{Dir: filepath.Join(t.TempDir(), "stage"), Programs: programs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			(&play{}).showLogs(t.Log, filepath.Dir(s.Bin()))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := &churn{Stage: s, random: rand.New(rand.NewPCG(seed, seed))}
	must(t, s.StartGit(ctx))
	must(t, s.StartHub(ctx))
	must(t, s.AddCluster(ctx, stage.SpokeConfig{Name: "dev", Labels: map[string]string{"env": "dev"}}))
	c.push(t)
	must(t, s.Join(ctx, "dev"))
	c.kubectl(t, "create", "configmap", "foreign", "--from-literal=text=mine")
	c.kubectl(t, "label", "configmap", "foreign", "capstan.dev/app=churn", "capstan.dev/app-namespace=capstan-system")
	foreign := c.kubectl(t, "get", "configmap", "foreign", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}")

	for range kills {
		c.push(t)
		after := time.Duration(c.random.Int64N(int64(within)))
		moment := time.NewTimer(after)
		select {
		case <-moment.C:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		must(t, s.Spoke("dev").Agent().Kill())
		t.Logf("killed %s after revision %d was pushed; %d objects are there", after, c.revision, len(c.live(t)))
		// The dead agent can't give the Lease back. Nobody has to wait until it ends.
		c.kubectl(t, "-n", "capstan-system", "patch", "lease", "capstan-agent", "--type=merge", "-p", `{"spec":{"holderIdentity":""}}`)
		must(t, s.Spoke("dev").StartAgent())
	}

	app := c.settled(t)
	live := c.live(t)
	delete(live, "foreign")
	if !maps.Equal(live, c.wanted) {
		t.Errorf("there are %v\nwanted    %v", live, c.wanted)
	}
	if owned := c.owned(t, app); !slices.Equal(owned, slices.Sorted(maps.Keys(live))) {
		t.Errorf("the agent owns %v\nthere are      %v", owned, slices.Sorted(maps.Keys(live)))
	}
	if now := c.kubectl(t, "get", "configmap", "foreign", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}"); now != foreign {
		t.Errorf("the object of somebody else was %s and is %s", foreign, now)
	}
}

// push makes and pushes a revision: some objects come, some go, some change.
func (c *churn) push(t *testing.T) {
	t.Helper()
	c.revision++
	before := c.wanted
	c.wanted = make(map[string]string)
	for _, i := range c.random.Perm(pool)[:least+c.random.IntN(pool-least+1)] {
		name := fmt.Sprintf("churn-%02d", i)
		c.wanted[name] = fmt.Sprintf("revision %d", c.revision)
		if text, had := before[name]; had && c.random.IntN(2) == 0 {
			c.wanted[name] = text
		}
	}
	var objects strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.wanted)) {
		fmt.Fprintf(&objects, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {text: %s}\n", name, c.wanted[name])
	}
	files := map[string]string{
		"apps/churn/kustomization.yaml":     "resources: [objects.yaml]\n",
		"apps/churn/objects.yaml":           objects.String(),
		"clusters/fleet/kustomization.yaml": "resources: [churn.yaml]\n",
		"clusters/fleet/churn.yaml": "apiVersion: capstan.dev/v1alpha1\nkind: App\nmetadata: {name: churn}\n" +
			"spec: {source: {path: apps/churn}}\n",
	}
	_, err := c.Fleet.Push(t.Context(), fmt.Sprintf("Revision %d", c.revision), files)
	must(t, err)
}

// live gives what carries the app's label, with its text.
func (c *churn) live(t *testing.T) map[string]string {
	t.Helper()
	out := c.kubectl(t, "get", "configmap", "-l", "capstan.dev/app=churn", "-o", `jsonpath={range .items[*]}{.metadata.name}={.data.text}{"\n"}{end}`)
	all := make(map[string]string)
	for line := range strings.Lines(out) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), "=")
		all[name] = text
	}
	return all
}

// settled waits until the app stands at the last revision.
func (c *churn) settled(t *testing.T) fleet.AppStatus {
	t.Helper()
	p := &play{ctx: t.Context(), stage: c.Stage}
	out, err := p.retry(untilWithin, func() (string, error) {
		return p.app([]string{"dev", "churn", "sync=Synced", "health=Healthy", "revision=HEAD", "stale=false"})
	})
	must(t, err)
	var app fleet.AppStatus
	must(t, json.Unmarshal([]byte(out), &app))
	return app
}

// owned is what the agent's inventory holds.
func (c *churn) owned(t *testing.T, app fleet.AppStatus) []string {
	t.Helper()
	tree, err := c.Hub.Client.Tree(t.Context(), "dev", app.Name())
	must(t, err)
	var names []string
	for _, o := range tree {
		names = append(names, o.Object.Name)
	}
	slices.Sort(names)
	return names
}

func (c *churn) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(context.WithoutCancel(t.Context()), "dev", "", args...)
	must(t, err)
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
