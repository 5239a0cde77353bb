package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestSyncAsksThoseThatHaveTheApp(t *testing.T) {
	o := newOffice(t)
	for _, c := range []string{"dev", "prod", "edge"} {
		o.enrolled(t, c)
	}
	for _, c := range []string{"dev", "prod"} {
		if err := o.report(t, c, 1, 1, "well"); err != nil {
			t.Fatal(err)
		}
	}
	asked, err := o.Sync(t.Context(), web, nil)
	if err != nil || fmt.Sprint(asked) != "[dev prod]" {
		t.Fatal(asked, err)
	}
	if in := o.link.last("prod"); len(in.Syncs) != 1 || in.Syncs[0].App != web || in.Syncs[0].ID == "" {
		t.Errorf("pushed %+v", in)
	}
	if asked, err := o.Sync(t.Context(), web, []string{"dev"}); err != nil || fmt.Sprint(asked) != "[dev]" {
		t.Error(asked, err)
	}
	for _, clusters := range [][]string{{"edge"}, {"dev", "edge"}, {"nowhere"}} {
		if _, err := o.Sync(t.Context(), web, clusters); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("%v: got %v, want ErrNotFound", clusters, err)
		}
	}
	if _, err := o.Sync(t.Context(), fleet.AppName{Namespace: "shop", Name: "nosuch"}, nil); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	o.clock.pass(11 * time.Minute)
	if _, err := o.Sync(t.Context(), web, []string{"dev"}); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Syncs) != 1 {
		t.Errorf("old wishes are still passed on: %+v", in.Syncs)
	}
	for range 100 {
		if _, err := o.Sync(t.Context(), web, []string{"dev"}); err != nil {
			t.Fatal(err)
		}
	}
	if in := o.link.last("dev"); len(in.Syncs) > 64 {
		t.Errorf("%d wishes pile up", len(in.Syncs))
	}
}

func TestEveryChangeIsAudited(t *testing.T) {
	o := newOffice(t)
	ctx := fleet.WithActor(t.Context(), "ada")
	o.enrolled(t, "dev")
	if err := o.report(t, "dev", 1, 1, "waits"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.LabelCluster(ctx, "dev", map[string]string{"env": "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.Approve(ctx, approval("dev")); err != nil {
		t.Fatal(err)
	}
	if err := o.Reject(ctx, "dev", web, "plan-web", "no"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Sync(ctx, web, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.RemoveCluster(ctx, "dev"); err != nil {
		t.Fatal(err)
	}
	entries, err := o.store.Log().Last(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range entries {
		var e struct{ Actor, Action, Cluster string }
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if e.Cluster != "dev" {
			t.Errorf("%s names cluster %q", b, e.Cluster)
		}
		got = append(got, e.Actor+" "+e.Action)
		if strings.Contains(string(b), "seed") {
			t.Errorf("a secret is in the log: %s", b)
		}
	}
	if want := "hub join,hub enrol,ada label,ada approve,ada reject,ada sync,ada remove-cluster"; strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestAnAnswerIsPutTogetherFromItsParts(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	var want []fleet.HistoryEntry
	for i := range 50 {
		want = append(want, fleet.HistoryEntry{Digest: fleet.Digest(fmt.Sprint(i))})
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	changes := 1
	o.link.answer = func(a wire.Ask) (wire.Part, error) {
		etag := fmt.Sprint("e", changes)
		if a.Offset > 1000 && changes > 0 { // it changes while it is fetched
			changes--
			etag = "new"
		}
		return wire.Part{ETag: etag, Total: len(data), Data: data[a.Offset:min(a.Offset+700, len(data))]}, nil
	}
	got, err := o.History(t.Context(), "dev", web)
	if err != nil || len(got) != 50 || got[49].Digest != "49" {
		t.Errorf("got %d, %v", len(got), err)
	}
	for name, answer := range map[string]func(wire.Ask) (wire.Part, error){
		"always another": func(a wire.Ask) (wire.Part, error) {
			changes++
			return wire.Part{ETag: fmt.Sprint(changes), Total: 10, Data: []byte("x")}, nil
		},
		"never an end":      func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: 10}, nil },
		"more than it says": func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: 3, Data: []byte("12")}, nil },
		"no JSON":           func(wire.Ask) (wire.Part, error) { return wire.Part{ETag: "e", Total: 2, Data: []byte("{]")}, nil },
	} {
		o.link.answer = answer
		if _, err := o.Tree(t.Context(), "dev", web); !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	o.link.answer = func(wire.Ask) (wire.Part, error) { return wire.Part{}, fleet.NotFound("nothing waits") }
	if _, err := o.Plan(t.Context(), "dev", web); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := o.Plan(t.Context(), "nowhere", web); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestAPushIsPassedOn(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	o.enrolled(t, "prod")
	want := []fleet.Push{{RepoURL: "https://git.example.com/fleet.git", Refs: []string{"refs/heads/main"}, Agents: 2}}
	if err := o.GitPushed(t.Context(), want[0].RepoURL, want[0].Refs...); err != nil || !reflect.DeepEqual(o.link.git, want) {
		t.Errorf("got %v, %v", o.link.git, err)
	}
	if err := o.GitPushed(t.Context(), "a\nb"); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
