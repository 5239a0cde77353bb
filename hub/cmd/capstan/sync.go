package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newSync(s *shell) *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:   "sync APP",
		Short: "Have clusters look at Git, and at an app, now",
		Long: `Have the clusters that have an app look at Git and at the app now, instead of at
the next poll. It opens no gate: what needs approval waits for it.`,
		Example: `  capstan sync guestbook
  capstan sync shop/guestbook --cluster prod`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			h, app, err := s.choose(c.Context(), args[0], w)
			if err != nil {
				return err
			}
			asked, err := h.Sync(c.Context(), app.name, app.clusters())
			if err != nil {
				return err
			}
			s.printf("asked: %s\n", strings.Join(asked, ", "))
			s.next("capstan get apps %s -w", app.name)
			return nil
		},
	}
	w.addFlags(c, s)
	return c
}
