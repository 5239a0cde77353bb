package fleettest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func resumes(t *testing.T, hub fleet.Hub, _ Seed) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next := func(c <-chan string) string {
		t.Helper()
		select {
		case v := <-c:
			return v
		case <-time.After(patience):
			t.Fatal("no word of a change")
			return ""
		}
	}
	label := func(value string) {
		t.Helper()
		if _, err := hub.LabelCluster(ctx, "dev", map[string]string{"env": value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	first, err := hub.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	next(first)
	label("one")
	seen := next(first)
	same, err := hub.Watch(ctx, seen)
	if err != nil {
		t.Fatal(err)
	}
	label("two") // while nobody with seen is watching
	again, err := hub.Watch(ctx, seen)
	if err != nil {
		t.Fatal(err)
	}
	if v := next(again); v == seen || v == "" {
		t.Errorf("version %q, and %q was seen", v, seen)
	}
	if v := next(same); v == seen {
		t.Errorf("version %q was told again", v)
	}
	other, err := hub.Watch(ctx, "of another hub")
	if err != nil {
		t.Fatal(err)
	}
	next(other)
}

func events(t *testing.T, hub fleet.Hub, _ Seed) {
	if _, err := hub.LabelCluster(t.Context(), "dev", map[string]string{"env": "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Sync(t.Context(), Guestbook, nil); err != nil {
		t.Fatal(err)
	}
	if err := hub.Reject(t.Context(), "prod", Guestbook, "plan-1", "no"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter fleet.EventFilter
		want   string
	}{
		"all":               {fleet.EventFilter{}, "label dev, sync dev, sync prod, reject prod"},
		"of a cluster":      {fleet.EventFilter{Clusters: []string{"prod"}}, "sync prod, reject prod"},
		"of an app":         {fleet.EventFilter{App: Guestbook.String()}, "sync dev, sync prod, reject prod"},
		"by action":         {fleet.EventFilter{Actions: []string{"label", "reject"}}, "label dev, reject prod"},
		"by nobody":         {fleet.EventFilter{Actor: "nobody"}, ""},
		"since just now":    {fleet.EventFilter{Since: time.Now().Add(-time.Hour)}, "label dev, sync dev, sync prod, reject prod"},
		"until an hour ago": {fleet.EventFilter{Until: time.Now().Add(-time.Hour)}, ""},
		"of the future":     {fleet.EventFilter{Since: time.Now().Add(time.Hour)}, ""},
	} {
		page, err := hub.Events(t.Context(), c.filter)
		if err != nil || told(page) != c.want || page.Items == nil || page.Continue != "" {
			t.Errorf("%s: %q, %v, continue %q; want %q", name, told(page), err, page.Continue, c.want)
		}
		for _, e := range page.Items {
			if e.ID == "" || e.Actor == "" || e.At.IsZero() {
				t.Errorf("%s: %s", name, text(e))
			}
		}
	}
	for name, bad := range map[string]fleet.EventFilter{
		"a limit":       {Limit: -1},
		"a large limit": {Limit: fleet.MaxEvents + 1},
		"a cluster":     {Clusters: []string{"a.>"}},
		"an app":        {App: "guestbook"},
		"a page":        {Continue: "x"},
		"times":         {Since: When, Until: When.Add(-time.Hour)},
	} {
		_, err := hub.Events(t.Context(), bad)
		if is(t, err, fleet.ErrInvalid); err == nil {
			t.Errorf("%s that makes no sense is taken", name)
		}
	}
}

func told(page fleet.EventPage) string {
	var all []string
	for _, e := range page.Items {
		all = append(all, strings.TrimSpace(e.Action+" "+e.Cluster))
	}
	return strings.Join(all, ", ")
}

func eventPages(t *testing.T, hub fleet.Hub, _ Seed) {
	for i := range 5 {
		if _, err := hub.LabelCluster(t.Context(), "dev", map[string]string{"env": fmt.Sprint("v", i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	f := fleet.EventFilter{Limit: 2}
	for range 10 {
		page, err := hub.Events(t.Context(), f)
		if err != nil || len(page.Items) > 2 {
			t.Fatal(text(page), err)
		}
		for _, e := range page.Items {
			ids = append(ids, e.ID)
		}
		if f.Continue = page.Continue; f.Continue == "" {
			break
		}
	}
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	if len(ids) != 5 || len(seen) != 5 {
		t.Errorf("five events came as %q", ids)
	}
}

func changes(t *testing.T, hub fleet.Hub, seed Seed) {
	for name, c := range map[string]struct {
		filter fleet.EventFilter
		want   []fleet.Event
	}{
		"all":               {fleet.EventFilter{}, seed.Changes},
		"of a cluster":      {fleet.EventFilter{Clusters: []string{"prod"}}, seed.Changes[3:]},
		"what drifted":      {fleet.EventFilter{Actions: []string{fleet.ChangeDrifted}}, seed.Changes[2:3]},
		"between two times": {fleet.EventFilter{Since: When, Until: When.Add(time.Minute)}, seed.Changes[1:3]},
	} {
		page, err := hub.Changes(t.Context(), c.filter)
		if err != nil || !same(page.Items, c.want) {
			t.Errorf("%s: %s, %v; want %s", name, text(page), err, text(c.want))
		}
	}
}
