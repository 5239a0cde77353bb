package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newToken(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens for programs",
		Example: `  capstan token create ci --role operator -l env=dev --app 'shop/*' --expires 720h
  capstan token list
  capstan token revoke ci`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	c.AddCommand(newTokenCreate(s), newTokenList(s), newTokenRevoke(s))
	return c
}

func newTokenCreate(s *shell) *cobra.Command {
	var r fleet.TokenRequest
	var roles []string
	var expires time.Duration
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token for a program, and print it this once",
		Long: `Make a token for a program: it may do what its roles say, on the clusters and for
the apps it is limited to, until it expires. The token is printed this once; the
hub keeps no more of it than a hash.`,
		Example: `  capstan token create ci --role operator -l env=dev --app 'shop/*' --expires 720h
  capstan token create git --role hook > hook.token`,
		Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := fleet.ValidateName("token", args[0]); err != nil {
				return usageError{err}
			}
			if len(roles) == 0 {
				return usage("--role viewer, operator, approver, admin or hook", "say what the token may do")
			}
			for _, role := range roles {
				r.Roles = append(r.Roles, fleet.Role(role))
			}
			r.Name, r.TTL = args[0], expires.String()
			h, err := s.hub()
			if err != nil {
				return err
			}
			made, err := h.CreateToken(c.Context(), r)
			if err != nil {
				return err
			}
			s.say("token %s: %s, until %s; it is shown this once", made.Name, grantText(made.Grant), made.Expires.UTC().Format(time.RFC3339))
			s.printf("%s\n", made.Secret)
			return nil
		},
	}
	c.Flags().StringSliceVar(&roles, "role", nil, "viewer, operator, approver, admin or hook (repeatable)")
	c.Flags().StringVarP(&r.Clusters, "selector", "l", "", "only on clusters with these labels, for instance env=dev")
	c.Flags().StringArrayVar(&r.Apps, "app", nil, "only for these apps: namespace/name, with * for any part (repeatable)")
	c.Flags().DurationVar(&expires, "expires", 90*24*time.Hour, "how long the token counts")
	return c
}

func newTokenList(s *shell) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens there are, without their secrets",
		Example: "  capstan token list\n  capstan token list -o json",
		Args:    exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			items, err := h.Tokens(c.Context())
			if err != nil {
				return err
			}
			p := &printer[fleet.Token]{s: s, f: f, t: table[fleet.Token]{
				what:    "tokens",
				columns: []string{"NAME", "ROLES", "CLUSTERS", "APPS", "EXPIRES", "MADE BY"},
				row: func(t fleet.Token) []string {
					return []string{t.Name, rolesText(t.Grant), clustersText(t.Grant), appsText(t.Grant), s.until(t.Expires), dash(t.CreatedBy)}
				},
				name: func(t fleet.Token) string { return t.Name },
			}}
			return p.print(items, false)
		},
	}
	addFormat(c, &f, formatJSON, formatYAML, formatName)
	return c
}

// until says in how long t is.
func (s *shell) until(t time.Time) string {
	if left := t.Sub(s.now()); left > 0 {
		return "in " + span(left)
	}
	return "expired"
}

func newTokenRevoke(s *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Make a token worthless, at once",
		Example: "  capstan token revoke ci",
		Args:    exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := fleet.ValidateName("token", args[0]); err != nil {
				return usageError{err}
			}
			h, err := s.hub()
			if err != nil {
				return err
			}
			if err := h.RevokeToken(c.Context(), args[0]); err != nil {
				return err
			}
			s.printf("revoked: token %s\n", args[0])
			return nil
		},
	}
}
