package main

import "github.com/spf13/cobra"

func newOpen(s *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "open",
		Short:   "Print a link that opens the hub's page, once",
		Long:    "Print a link that logs a browser in to the hub's page as you. It works once, and soon.",
		Example: `  xdg-open "$(capstan open)"`,
		Args:    exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			link, err := h.Login(c.Context())
			if err != nil {
				return err
			}
			s.printf("%s\n", link)
			return nil
		},
	}
}
