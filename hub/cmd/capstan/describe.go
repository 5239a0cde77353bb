package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newDescribe(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:     "describe",
		Short:   "Tell all that is known of a cluster or an app",
		Example: "  capstan describe cluster prod\n  capstan describe app guestbook --cluster prod",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(newDescribeCluster(s), newDescribeApp(s))
	return c
}

func newDescribeCluster(s *shell) *cobra.Command {
	return &cobra.Command{
		Use:               "cluster NAME",
		Short:             "Tell all that is known of a cluster",
		Example:           "  capstan describe cluster prod",
		Args:              exactly("NAME"),
		ValidArgsFunction: s.completeCluster,
		RunE: func(c *cobra.Command, args []string) error {
			if err := fleet.ValidateName("cluster", args[0]); err != nil {
				return usageError{err}
			}
			h, err := s.hub()
			if err != nil {
				return err
			}
			found, err := h.Clusters(c.Context(), fleet.ClusterFilter{Names: args})
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fleet.WithHint(fleet.NotFound("cluster %q is not known", args[0]), "capstan get clusters lists them")
			}
			apps, err := h.Apps(c.Context(), fleet.AppFilter{Clusters: args})
			if err != nil {
				return err
			}
			s.describeCluster(found[0])
			s.describeSources(found[0].Sources)
			s.printf("\n")
			p := &printer[fleet.AppStatus]{s: s, t: appTable()}
			if err := p.print(apps, false); err != nil {
				return err
			}
			s.nextForApps(apps)
			return nil
		},
	}
}

func (s *shell) describeCluster(c fleet.Cluster) {
	state := "live"
	if c.Stale {
		state = "stale: its reports are too old to be believed"
	}
	s.facts([][2]string{
		{"Cluster", c.Cluster},
		{"State", state},
		{"Last seen", s.when(c.LastSeen)},
		{"Labels", labels(c.Labels)},
		{"  declared there", labels(c.Declared)},
		{"  assigned at the hub", labels(c.Assigned)},
		{"Head", string(c.Head)},
		{"Agent", c.AgentVersion},
		{"Agent key", c.AgentKey},
		{"Kubernetes", c.KubernetesVersion},
		{"UID", c.UID},
		{"Message", c.Message},
	})
}

// facts prints name and value, leaving out what is empty.
func (s *shell) facts(all [][2]string) {
	width := 0
	for _, f := range all {
		if f[1] != "" {
			width = max(width, len(f[0])+1)
		}
	}
	for _, f := range all {
		if f[1] == "" {
			continue
		}
		value := oneLine(f[1])
		s.printf("%-*s  %s\n", width, f[0]+":", s.paint(wordColor[value], value))
	}
}

func (s *shell) when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + s.ago(t) + " ago)"
}

func newDescribeApp(s *shell) *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:   "app APP",
		Short: "Tell all that is known of an app",
		Example: `  capstan describe app guestbook
  capstan describe app shop/guestbook --cluster prod`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			h, app, err := s.choose(c.Context(), args[0], w)
			if err != nil {
				return err
			}
			for i, a := range app.where {
				if i > 0 {
					s.printf("\n")
				}
				s.describeApp(c.Context(), h, a)
			}
			s.nextForApps(app.where)
			return nil
		},
	}
	w.addFlags(c, s)
	return c
}

func (s *shell) describeApp(ctx context.Context, h hub, a fleet.AppStatus) {
	s.facts([][2]string{
		{"App", a.Name().String()},
		{"Cluster", a.Cluster},
		{"Sync", string(a.Sync)},
		{"Health", string(a.Health)},
		{"Message", appMessage(a)},
		{"Hint", a.Hint},
		{"Reason", a.Reason},
		{"Next try", nextTry(a.Retry)},
		{"Revision", string(a.Revision)},
		{"Digest", string(a.Digest)},
		{"Source", sourceOf(a)},
		{"Path", a.Path},
		{"Changed", s.when(a.Changed)},
	})
	s.describeHolds(ctx, h, a)
	if p := a.Pending; p != nil {
		s.printf("Waits:\n")
		s.facts([][2]string{
			{"  Plan", p.Plan},
			{"  Action", string(p.Action)},
			{"  Gate", string(p.Gate)},
			{"  Changes", summary(p.Summary)},
			{"  Revision", string(p.Revision)},
			{"  Digest", string(p.Digest)},
			{"  Since", s.when(p.Since)},
		})
		s.printf("  Approvals: %d of %d\n", p.Have, p.Need)
	}
	if len(a.Drift) > 0 {
		s.printf("Drift:\n")
	}
	for _, d := range a.Drift {
		s.printf("  %s: %s, by %s, since %s\n", oneLine(d.Object.String()), oneLine(strings.Join(d.Fields, ", ")),
			oneLine(dash(d.Manager)), s.when(d.Since))
	}
	objects, err := h.Tree(ctx, a.Cluster, a.Name())
	if err != nil {
		// The rest is known without the cluster's answer.
		s.say("objects of %s on %s: %s", a.Name(), a.Cluster, err)
		return
	}
	s.printf("Objects:\n")
	s.printTree(objects)
}

// nextTry says when what failed is tried again; "" where nothing is.
func nextTry(r *fleet.Retry) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s, after %d that failed", r.Next.UTC().Format(time.RFC3339), r.Failed)
}
