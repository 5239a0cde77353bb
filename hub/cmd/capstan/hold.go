package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// holdFlags are what suspend, resume and rollback have in common.
type holdFlags struct {
	where
	reason string
	wait   time.Duration
	yes    bool
}

func (f *holdFlags) addFlags(c *cobra.Command, s *shell) {
	f.where.addFlags(c, s)
	c.Flags().DurationVar(&f.wait, "wait", 10*time.Second, "how long to wait for the clusters' answers; 0: not at all")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
}

func newSuspend(s *shell) *cobra.Command {
	var f holdFlags
	c := &cobra.Command{
		Use:   "suspend APP",
		Short: "Have clusters leave an app as it is",
		Long: `Have the clusters that have an app leave it as it is: nothing of it is rendered,
applied, pruned or healed until capstan resume. Drift is reported still. It is
shown with the app who suspended it, since when and why.

A cluster can refuse it: by default it does for apps whose plans need approval
there. In Git, spec.suspend does the same.`,
		Example: `  capstan suspend guestbook --cluster dev --reason "looking for a leak"
  capstan suspend shop/guestbook -l env=dev`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			return s.suspend(c.Context(), args[0], f)
		},
	}
	f.addFlags(c, s)
	c.Flags().StringVar(&f.reason, "reason", "", "why, for those who see it")
	return c
}

func (s *shell) suspend(ctx context.Context, arg string, f holdFlags) error {
	h, app, err := s.choose(ctx, arg, f.where)
	if err != nil {
		return err
	}
	if err := s.confirmMany("Suspend", app, f.yes); err != nil {
		return err
	}
	asked, err := h.Suspend(ctx, app.name, app.clusters(), f.reason)
	if err != nil {
		return err
	}
	suspended := func(fleet.AppStatus, fleet.Hold) string { return "suspended" }
	if err := s.answersToHold(ctx, h, app, asked, fleet.HoldSuspend, f.wait, suspended); err != nil {
		return err
	}
	s.next("capstan resume %s --cluster %s", app.name, asked[0])
	return nil
}

func newResume(s *shell) *cobra.Command {
	var f holdFlags
	var only string
	c := &cobra.Command{
		Use:   "resume APP",
		Short: "Let an app follow Git again",
		Long: `Let an app follow Git again on the clusters asked for: it ends what capstan
suspend and capstan rollback began there. What was changed meanwhile is put
back, and the newest commit is applied; where that needs approval it waits.`,
		Example: `  capstan resume guestbook --cluster dev
  capstan resume guestbook --cluster dev --only suspend   # it stays rolled back`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			return s.resume(c.Context(), args[0], f, fleet.HoldKind(only))
		},
	}
	f.addFlags(c, s)
	c.Flags().StringVar(&only, "only", "", "end only this: suspend or rollback")
	// Fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{string(fleet.HoldSuspend), string(fleet.HoldRollback)}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (s *shell) resume(ctx context.Context, arg string, f holdFlags, only fleet.HoldKind) error {
	if only != "" && only != fleet.HoldSuspend && only != fleet.HoldRollback {
		return usage("give suspend or rollback, or leave it out for both", "--only %q is not possible", only)
	}
	h, app, err := s.choose(ctx, arg, f.where)
	if err != nil {
		return err
	}
	if err := s.confirmMany("Resume", app, f.yes); err != nil {
		return err
	}
	asked, err := h.Resume(ctx, app.name, app.clusters(), only)
	if err != nil {
		return err
	}
	goesOn := func(a fleet.AppStatus) reply {
		for _, hold := range a.Holds {
			if only == "" || hold.Kind == only {
				return reply{}
			}
		}
		if a.Reason == "Suspended" {
			return reply{text: "resumed here; it is still suspended in Git, by spec.suspend"}
		}
		return reply{text: "resumed"}
	}
	if err := s.taken(ctx, h, app.name, asked, f.wait, goesOn); err != nil {
		return err
	}
	s.next("capstan get apps %s -w", app.name)
	return nil
}

// confirmMany asks a person who means several clusters whether that is meant.
func (s *shell) confirmMany(what string, app chosen, yes bool) error {
	if len(app.where) < 2 {
		return nil
	}
	return s.confirm(fmt.Sprintf("%s %s on %d clusters (%s)?", what, app.name, len(app.where), strings.Join(app.clusters(), ", ")), yes)
}

// answersToHold waits until the clusters have said whether they do what was
// asked, and done tells from an app's status what became of it; "" for nothing
// yet. An error is a cluster's refusal.
func (s *shell) answersToHold(ctx context.Context, h hub, app chosen, asked []string, kind fleet.HoldKind, patience time.Duration, done func(fleet.AppStatus, fleet.Hold) string) error {
	before := map[string]time.Time{}
	for _, a := range app.where {
		for _, hold := range a.Holds {
			if hold.Kind == kind {
				before[a.Cluster] = hold.At
			}
		}
	}
	return s.taken(ctx, h, app.name, asked, patience, func(a fleet.AppStatus) reply {
		for _, hold := range a.Holds {
			switch {
			case hold.Kind != kind || hold.Asked || hold.At.Equal(before[a.Cluster]):
			case hold.Refused != "":
				return reply{refusal: fleet.WithHint(fleet.Forbidden("cluster %s refuses: %s", a.Cluster, hold.Refused),
					fmt.Sprintf("take it back with: capstan resume %s --cluster %s --only %s", app.name, a.Cluster, kind))}
			default:
				return reply{text: done(a, hold), heard: true}
			}
		}
		return reply{}
	})
}

// reply is what a cluster says to a wish.
type reply struct {
	text    string // what became of it; "": nothing yet
	heard   bool   // the cluster knows of it
	refusal error
}

// taken waits for what the clusters say to a wish, as look reads it from an
// app's status.
func (s *shell) taken(ctx context.Context, h hub, app fleet.AppName, clusters []string, patience time.Duration, look func(fleet.AppStatus) reply) error {
	waiting := map[string]reply{}
	for _, c := range clusters {
		waiting[c] = reply{}
	}
	if patience <= 0 {
		s.printf("asked: %s\n", strings.Join(clusters, ", "))
		return nil
	}
	var refused error
	err := s.await(ctx, h, patience, func() (bool, error) {
		found, err := h.Apps(ctx, fleet.AppFilter{Clusters: clusters, Namespace: app.Namespace, Name: app.Name})
		if err != nil {
			return false, err
		}
		for _, a := range found {
			if _, waits := waiting[a.Cluster]; !waits {
				continue
			}
			r := look(a)
			if a.Stale && r.text == "" {
				r.text = "silent: it hears of it when it is back"
			}
			if waiting[a.Cluster] = r; r.text == "" && r.refusal == nil {
				continue
			}
			delete(waiting, a.Cluster)
			if refused = errors.Join(refused, r.refusal); r.refusal == nil {
				s.printf("%s: %s\n", a.Cluster, r.text)
			}
		}
		return len(waiting) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("it was passed on; what the clusters say to it can't be had: %w", err)
	}
	for _, c := range clusters {
		switch r, waits := waiting[c]; {
		case r.heard:
			s.printf("%s: taken; it is on its way\n", c)
		case waits:
			s.say("%s has not answered within %s; it hears of it when it can", c, patience)
		}
	}
	return refused
}
