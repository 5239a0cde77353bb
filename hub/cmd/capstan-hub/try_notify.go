package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newNotifyTest() *cobra.Command {
	var file, url, commit string
	var only []string
	cmd := &cobra.Command{
		Use:   "notify-test",
		Short: "Send a made-up message on each route of a --notify-file",
		Long: `Send a made-up message on each route of a --notify-file.

Checks the file, then sends a message about cluster "example" for the first
trigger of each route, and says how that went. Routes to a commit's status are
tried only with --commit, which then gets it.`,
		Example: `  capstan-hub notify-test --notify-file notify.yaml
  capstan-hub notify-test --notify-file notify.yaml --route oncall --route commits --commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return fleet.WithHint(fleet.Invalid("no file is named"), "name it with --notify-file")
			}
			c, err := notify.Load(file)
			if err != nil {
				return err
			}
			for _, name := range only {
				if !slices.ContainsFunc(c.Routes, func(r notify.Route) bool { return r.Name == name }) {
					return fleet.NotFound("%s has no route %q", file, name)
				}
			}
			failed := false
			for i := range c.Routes {
				r := &c.Routes[i]
				if len(only) == 0 || slices.Contains(only, r.Name) {
					failed = !tryRoute(cmd, r, url, commit) || failed
				}
			}
			if failed {
				return errors.New("not every message was delivered")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "notify-file", "", "whom to notify of what (required)")
	f.StringSliceVar(&only, "route", nil, "only these routes")
	f.StringVar(&url, "url", "", "URL of the hub as people reach it, for links")
	f.StringVar(&commit, "commit", "", "commit to set a status of, for routes to a forge")
	return cmd
}

// tryRoute sends one message and says how that went.
func tryRoute(cmd *cobra.Command, r *notify.Route, url, commit string) bool {
	out := cmd.OutOrStdout()
	m := notify.Sample(r.Name, r.On[0], time.Now(), url)
	if r.Kind() == "github" || r.Kind() == "gitlab" {
		if commit == "" {
			fmt.Fprintf(out, "%s (%s): not tried, it needs --commit\n", r.Name, r.Kind())
			return true
		}
		m.Revision = fleet.NewRevision("main", commit)
	}
	if err := r.Send(cmd.Context(), m); err != nil {
		fmt.Fprintf(out, "%s (%s): %v\n", r.Name, r.Kind(), err)
		return false
	}
	fmt.Fprintf(out, "%s (%s): delivered\n", r.Name, r.Kind())
	return true
}
