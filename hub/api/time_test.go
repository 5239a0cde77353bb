package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

// slowAgent is a hub whose agents take their time.
type slowAgent struct {
	*fleettest.Hub
	takes time.Duration
}

func (h slowAgent) Tree(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.Object, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(h.takes):
		return h.Hub.Tree(ctx, cluster, app)
	}
}

// inBubble serves hub over pipes, so that the clock is the bubble's.
func inBubble(t *testing.T, hub fleet.Hub) *http.Client {
	t.Helper()
	handler, err := api.New(api.Config{
		Hub: hub, People: &everybody{}, Logins: &everybody{},
		GitPushed: func(context.Context, string, ...string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	l := pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		l.conns <- there
		return here, nil
	}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = server.Close()
		<-served
	})
	return &http.Client{Transport: tr}
}

type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func TestAnAgentMayTakeItsTimeButNotForever(t *testing.T) {
	for takes, want := range map[time.Duration]error{25 * time.Second: nil, time.Minute: fleet.ErrUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			hub := slowAgent{fleettest.NewHub(fleettest.Sample()), takes}
			c, err := client.New(client.Config{URL: "http://hub", Token: "x", HTTP: inBubble(t, hub)})
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			_, err = c.Tree(t.Context(), "dev", fleettest.Guestbook)
			if !errors.Is(err, want) || time.Since(begin) > 30*time.Second {
				t.Errorf("an agent that takes %s: %v after %s, want %v", takes, err, time.Since(begin), want)
			}
		})
	}
}

func TestABodyMustComeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, fleettest.NewHub(fleettest.Sample()))
		body, never := io.Pipe()
		defer never.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://hub/api/v1/joins", io.MultiReader(strings.NewReader("{"), body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		begin := time.Now()
		res, err := c.Do(req)
		if err == nil {
			defer res.Body.Close()
			if res.StatusCode/100 != 4 {
				t.Errorf("status %s", res.Status)
			}
		}
		if took := time.Since(begin); took > 11*time.Second {
			t.Errorf("the hub waited %s for a body", took)
		}
	})
}

func TestAQuietStreamSaysThatItIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, fleettest.NewHub(fleettest.Sample()))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hub/api/v1/watch", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		all, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("the stream broke: %v", err)
		}
		if n, took := strings.Count(string(all), ": still here"), time.Since(begin); n < 55 || took != 15*time.Minute {
			t.Errorf("%d signs of life in %s", n, took)
		}
	})
}
