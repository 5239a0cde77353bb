package main

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `Capstan shows and steers a fleet of Kubernetes clusters, each of which pulls
its own state from Git.

It speaks to a hub. CAPSTAN_HUB is the hub's address, CAPSTAN_TOKEN your token;
without one, what capstan login left counts.
Approvals are signed with your own SSH key: CAPSTAN_KEY names the private key
file; without it the SSH agent is asked.`

const rootExample = `  capstan get clusters
  capstan get apps -l env=prod
  capstan diff guestbook --cluster prod
  capstan approve guestbook --cluster prod --comment "looks right"`

func newRoot(s *shell) *cobra.Command {
	root := &cobra.Command{
		Use:               "capstan",
		Short:             "Show and steer a fleet of clusters that pull from Git",
		Long:              rootLong,
		Example:           rootExample,
		Version:           ownVersion()["version"],
		SilenceErrors:     true, // finish prints them
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              cobra.ArbitraryArgs,
		RunE:              group,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c.CommandPath()+" --help shows the flags", "%w", err)
	})
	root.PersistentFlags().StringVar(&s.hubURL, "hub", "", "address of the hub (default: CAPSTAN_HUB)")
	root.AddCommand(
		newGet(s), newDescribe(s), newDiff(s), newTree(s), newHistory(s),
		newTrace(s), newCheck(s), newApprove(s), newReject(s), newSync(s),
		newSuspend(s), newResume(s), newRollback(s),
		newJoin(s), newLabel(s), newCluster(s), newOpen(s),
		newLogin(s), newLogout(s), newToken(s), newAudit(s), newWhoami(s), newSupportBundle(s), newVersion(s),
	)
	return root
}

// group is what a command does that only holds others.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !c.HasParent() {
			return c.Help()
		}
		return usage(c.CommandPath()+" --help says more", "%s needs one of: %s", c.CommandPath(), strings.Join(subcommands(c), ", "))
	}
	c.SuggestionsMinimumDistance = 2 // letters to change
	hint := c.CommandPath() + " --help lists them"
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + c.CommandPath() + " " + strings.Join(near, ", or ") + "?"
	}
	return usage(hint, "%s has no command %q", c.CommandPath(), args[0])
}

func subcommands(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// exactly checks the number of arguments, which are named in the message.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := strings.Join(names, " ")
		if want == "" {
			want = "no arguments"
		}
		return usage("usage: "+c.UseLine(), "%s takes %s, and was given %s", c.CommandPath(), want, cmp.Or(strings.Join(args, " "), "nothing"))
	}
}

// atMost is exactly for one argument that may be left out.
func atMost(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return usage("usage: "+c.UseLine(), "%s takes one %s at most", c.CommandPath(), name)
	}
}
