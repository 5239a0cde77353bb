package hub_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/hub/store"
)

func TestWhatAgentsReportIsNotifiedOnceOverRestarts(t *testing.T) {
	got := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- string(b)
	}))
	defer s.Close()
	c, err := notify.Parse("test", fmt.Appendf(nil, "routes: [{name: all, on: [pending], webhook: {url: '%s'}}]", s.URL))
	if err != nil {
		t.Fatal(err)
	}
	o := newOffice(t)
	o.enrolled(t, "dev")
	told := func(seq uint64, want string) {
		t.Helper()
		if err := o.report(t, "dev", 1, seq, "well"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		n := notify.New(notify.NotifierConfig{Routes: c.Routes, Fleet: o.Desk, Told: o.store.Bucket(store.Notified), Every: time.Millisecond})
		go func() { done <- n.Run(ctx) }()
		if want != "" {
			if body := <-got; !strings.Contains(body, want) {
				t.Errorf("got %s", body)
			}
			for { // until it is written down
				if _, _, err := o.store.Bucket(store.Notified).Get(t.Context(), "dev.shop.web"); err == nil {
					break
				}
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	told(1, "dev/shop/web")
	told(2, "")
	if len(got) > 0 {
		t.Errorf("told again: %s", <-got)
	}
}

func TestAHubWithAWrongNotifyFileDoesNotStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notify.yaml")
	if err := os.WriteFile(file, []byte("routes:\n- name: a\n  on: [everything]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := hub.Run(t.Context(), hub.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", NotifyFile: file})
	if err == nil || !strings.Contains(err.Error(), "notify.yaml line 2") {
		t.Errorf("got %v", err)
	}
}
