package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signin"
)

// loginTime is how long somebody may take in the browser.
const loginTime = 10 * time.Minute

func newLogin(s *shell) *cobra.Command {
	var device, noBrowser bool
	c := &cobra.Command{
		Use:   "login",
		Short: "Sign in to the hub with your organization's account",
		Long: `Sign in with the hub's identity provider, in a browser: on this machine, or with
--device on any other. What the provider gives is kept in a file of yours
(CAPSTAN_LOGINS), and renewed when it ends. CAPSTAN_TOKEN, where it is set, is
used instead.`,
		Example: "  capstan login\n  capstan login --device",
		Args:    exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), loginTime)
			defer cancel()
			return s.login(ctx, device, noBrowser)
		},
	}
	c.Flags().BoolVar(&device, "device", false, "print a code to type in where there is a browser")
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address instead of opening a browser")
	return c
}

func (s *shell) login(ctx context.Context, device, noBrowser bool) error {
	address := s.hubAddress()
	file, err := s.loginsFile()
	if err != nil {
		return err
	}
	h, err := client.New(client.Config{URL: address})
	if err != nil {
		return usageError{err}
	}
	in, err := h.SignIn(ctx)
	if err != nil {
		return err
	}
	p, err := provider(in)
	if err != nil {
		return err
	}
	var tokens signin.Tokens
	if device {
		tokens, err = p.Device(ctx, s.showCode)
	} else {
		tokens, err = p.Loopback(ctx, func(url string) error {
			s.say("Sign in at:\n\n  %s\n", url)
			if !noBrowser {
				s.browse(ctx, url)
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	if err := file.put(address, &login{SignIn: in, ID: tokens.ID, Refresh: tokens.Refresh, Expires: tokens.Claims.Expires}); err != nil {
		return err
	}
	if s.env("CAPSTAN_TOKEN") != "" {
		s.say("note: CAPSTAN_TOKEN is set, and is used instead")
	}
	return s.greet(ctx, address, tokens.ID)
}

// greet says as whom the hub knows who signed in.
func (s *shell) greet(ctx context.Context, address, token string) error {
	h, err := client.New(client.Config{URL: address, Token: token})
	if err != nil {
		return err
	}
	self, err := h.Whoami(ctx)
	if err != nil {
		return fmt.Errorf("the hub does not take what the provider gave: %w", err)
	}
	s.printf("signed in as %s\n", self.Name)
	if len(self.Grants) == 0 {
		s.say("note: the hub's access file gives you no role")
	}
	s.next("capstan get apps")
	return nil
}

func (s *shell) showCode(c signin.DeviceCode) {
	s.say("Sign in at:\n\n  %s\n\nwith the code:\n\n  %s\n", oneLine(c.Address), oneLine(c.Code))
	if c.Direct != "" {
		s.say("or at once at:\n\n  %s\n", oneLine(c.Direct))
	}
}

// browse tries to open a browser. Where there is none the address is printed anyway.
func (s *shell) browse(ctx context.Context, url string) {
	if !s.typed {
		return
	}
	name := "xdg-open"
	if runtime.GOOS == "darwin" {
		name = "open"
	}
	if path, err := exec.LookPath(name); err == nil {
		_ = exec.CommandContext(ctx, path, url).Start()
	}
}

func newLogout(s *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "logout",
		Short:   "Forget the sign-in to the hub",
		Long:    "Forget what capstan login left for this hub, and have the identity provider take back its refresh token.",
		Example: "  capstan logout",
		Args:    exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			file, err := s.loginsFile()
			if err != nil {
				return err
			}
			all, err := file.read()
			if err != nil {
				return err
			}
			l, ok := all[s.hubAddress()]
			if !ok {
				return fleet.WithHint(fleet.NotFound("nobody is signed in to %q", s.hubAddress()), "CAPSTAN_HUB names the hub")
			}
			if err := file.put(s.hubAddress(), nil); err != nil {
				return err
			}
			s.printf("signed out\n")
			if l.Refresh == "" {
				return nil
			}
			p, err := provider(l.SignIn)
			if err != nil {
				return err
			}
			return p.Revoke(c.Context(), l.Refresh)
		},
	}
}
