package hub_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAFullDiskIsSaidAndNothingIsWrittenUntilThereIsRoom(t *testing.T) {
	var free atomic.Uint64
	free.Store(10 << 30)
	a, stop := run(t, hub.Config{DataDir: t.TempDir(), Free: func(string) (uint64, error) { return free.Load(), nil }})
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := client.New(client.Config{URL: a.URL, Token: adminToken(t, a)})
	if err != nil {
		t.Fatal(err)
	}
	ready := func(want int, says string) {
		t.Helper()
		end := time.After(30 * time.Second)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			code, text := get(t, a.URL+"/readyz", "")
			if code == want && strings.Contains(text, says) {
				return
			}
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("readyz: %d %s, want %d and %q", code, text, want, says)
			}
		}
	}
	join := func(name string) error {
		_, err := c.Join(t.Context(), name, 0)
		return err
	}
	ready(200, "ok")
	if err := join("before"); err != nil {
		t.Fatal(err)
	}
	for _, left := range []uint64{10 << 20, 0} { // a little, and none at all: then the store is opened anew
		free.Store(left)
		ready(503, "hint: make room")
		if err := join("full"); !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") || !strings.Contains(fleet.Hint(err), "make room") {
			t.Errorf("with %d bytes: %v (hint %q)", left, err, fleet.Hint(err))
		}
		if _, err := c.Clusters(t.Context(), fleet.ClusterFilter{}); err != nil {
			t.Errorf("what is there can't be read: %v", err)
		}
		free.Store(100 << 20) // not enough to begin anew
		if err := join("still"); !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("just above the limit: %v", err)
		}
		free.Store(10 << 30)
		ready(200, "ok")
		if err := join("after"); err != nil {
			t.Errorf("with room again: %v", err)
		}
		// What was there before is there.
		if page, err := c.Events(t.Context(), fleet.EventFilter{Actions: []string{"join"}}); err != nil || len(page.Items) == 0 || page.Items[0].Cluster != "before" {
			t.Errorf("the audit log: %+v, %v", page, err)
		}
	}
}
