package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newWhoami(s *shell) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "whoami",
		Short:   "Tell who you are to the hub, and what you may do",
		Example: "  capstan whoami\n  capstan whoami -o json",
		Args:    exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			self, err := h.Whoami(c.Context())
			if err != nil {
				return err
			}
			if f != formatTable {
				return s.encode(self, f)
			}
			expires := ""
			if self.Expires != nil {
				expires = self.Expires.UTC().Format(time.RFC3339)
			}
			s.facts([][2]string{
				{"Name", self.Name}, {"Known by", self.Via}, {"Groups", strings.Join(self.Groups, ", ")}, {"Expires", expires},
			})
			if len(self.Grants) == 0 {
				s.printf("No role: the hub's access file gives you none.\n")
			}
			for _, g := range self.Grants {
				s.printf("Role:      %s\n", oneLine(grantText(g)))
			}
			return nil
		},
	}
	addFormat(c, &f, formatJSON, formatYAML)
	return c
}

// grantText reads: operator, approver on clusters env=prod for apps team-a/*.
func grantText(g fleet.Grant) string {
	return rolesText(g) + " on " + clustersText(g) + " for " + appsText(g)
}

func rolesText(g fleet.Grant) string {
	roles := make([]string, len(g.Roles))
	for i, r := range g.Roles {
		roles[i] = string(r)
	}
	return strings.Join(roles, ", ")
}

func clustersText(g fleet.Grant) string {
	if g.Clusters == "" {
		return "all clusters"
	}
	return "clusters " + g.Clusters
}

func appsText(g fleet.Grant) string {
	if len(g.Apps) == 0 {
		return "all apps"
	}
	return "apps " + strings.Join(g.Apps, ", ")
}
