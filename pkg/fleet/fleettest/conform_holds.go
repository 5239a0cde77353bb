package fleettest

import (
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func suspends(t *testing.T, hub fleet.Hub, _ Seed) {
	for _, c := range []struct{ clusters, want []string }{
		{[]string{"prod"}, []string{"prod"}},
		{nil, []string{"dev", "prod"}},
	} {
		if got, err := hub.Suspend(t.Context(), Guestbook, c.clusters, "look <here> & there"); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("of %v were asked %v, %v; want %v", c.clusters, got, err, c.want)
		}
	}
	_, err := hub.Suspend(t.Context(), Guestbook, []string{"dev", "staging"}, "")
	is(t, err, fleet.ErrNotFound)
	_, err = hub.Suspend(t.Context(), fleet.AppName{Namespace: "default", Name: "other"}, nil, "")
	is(t, err, fleet.ErrNotFound)
	_, err = hub.Suspend(t.Context(), Guestbook, nil, strings.Repeat("x", fleet.MaxWhy+1))
	is(t, err, fleet.ErrInvalid)

	held, err := hub.Apps(t.Context(), fleet.AppFilter{Held: true})
	if err != nil || len(held) != 2 || held[0].Held(fleet.HoldSuspend).Why != "look <here> & there" {
		t.Errorf("held are %s, %v", text(held), err)
	}
}

func rollbacks(t *testing.T, hub fleet.Hub, _ Seed) {
	for name, c := range map[string]struct {
		to   fleet.RollbackTo
		want fleet.Revision
		err  error
	}{
		"the one before":        {fleet.RollbackTo{}, revA, nil},
		"one step":              {fleet.RollbackTo{Steps: 1}, revA, nil},
		"a commit":              {fleet.RollbackTo{Revision: "1111111"}, revA, nil},
		"a revision":            {fleet.RollbackTo{Revision: string(revA)}, revA, nil},
		"what runs":             {fleet.RollbackTo{Revision: string(revB)}, revB, nil},
		"more than there is":    {fleet.RollbackTo{Steps: 2}, "", fleet.ErrNotFound},
		"what was never there":  {fleet.RollbackTo{Revision: "3333333"}, "", fleet.ErrNotFound},
		"too little of one":     {fleet.RollbackTo{Revision: "111"}, "", fleet.ErrInvalid},
		"forward":               {fleet.RollbackTo{Steps: -1}, "", fleet.ErrInvalid},
		"two things":            {fleet.RollbackTo{Steps: 1, Revision: "1111111"}, "", fleet.ErrInvalid},
		"for a long, long tale": {fleet.RollbackTo{Why: strings.Repeat("x", fleet.MaxWhy+1)}, "", fleet.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := hub.Rollback(t.Context(), "dev", Guestbook, c.to)
			if c.err != nil {
				is(t, err, c.err)
			} else if err != nil || got.Kind != fleet.HoldRollback || got.Revision != c.want || got.Digest == fleet.NoDigest {
				t.Errorf("got %s, %v; want %s", text(got), err, c.want)
			}
		})
	}
	_, err := hub.Rollback(t.Context(), "prod", Guestbook, fleet.RollbackTo{}) // nothing is known of what it ran
	is(t, err, fleet.ErrNotFound)
	_, err = hub.Rollback(t.Context(), "staging", Guestbook, fleet.RollbackTo{})
	is(t, err, fleet.ErrNotFound)
}

func resumesApps(t *testing.T, hub fleet.Hub, _ Seed) {
	hold := func() {
		t.Helper()
		if _, err := hub.Suspend(t.Context(), Guestbook, nil, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := hub.Rollback(t.Context(), "dev", Guestbook, fleet.RollbackTo{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := hub.Resume(t.Context(), Guestbook, nil, "")
	is(t, err, fleet.ErrConflict)
	hold()
	for _, c := range []struct {
		only fleet.HoldKind
		want []string
		err  error
	}{
		{fleet.HoldRollback, []string{"dev"}, nil},
		{fleet.HoldRollback, nil, fleet.ErrConflict},
		{fleet.HoldSuspend, []string{"dev", "prod"}, nil},
		{"", nil, fleet.ErrConflict},
		{"dance", nil, fleet.ErrInvalid},
	} {
		got, err := hub.Resume(t.Context(), Guestbook, nil, c.only)
		if c.err != nil {
			is(t, err, c.err)
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: asked %v, %v; want %v", c.only, got, err, c.want)
		}
	}
	hold()
	if got, err := hub.Resume(t.Context(), Guestbook, []string{"prod", "dev"}, ""); err != nil || !slices.Equal(got, []string{"dev", "prod"}) {
		t.Errorf("asked %v, %v", got, err)
	}
	if held, err := hub.Apps(t.Context(), fleet.AppFilter{Held: true}); err != nil || len(held) != 0 {
		t.Errorf("held are %s, %v", text(held), err)
	}
	_, err = hub.Resume(t.Context(), Guestbook, []string{"staging"}, "")
	is(t, err, fleet.ErrNotFound)
	page, err := hub.Events(t.Context(), fleet.EventFilter{Actions: []string{"suspend", "rollback", "resume"}})
	if err != nil || len(page.Items) != 11 {
		t.Errorf("%d events, %v", len(page.Items), err)
	}
}
