package hub_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/client"
)

// stopping runs a hub, and returns a function that tells it to end and one that
// waits until it has.
func stopping(t *testing.T, cfg hub.Config) (a hub.Addresses, tell func(), ended func() error) {
	t.Helper()
	cfg.Listen, cfg.NATSListen = "127.0.0.1:0", "127.0.0.1:0"
	up, done := make(chan hub.Addresses, 1), make(chan error, 1)
	cfg.Started = func(a hub.Addresses) { up <- a }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- hub.Run(ctx, cfg) }()
	select {
	case a = <-up:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	return a, cancel, func() error { return <-done }
}

// notReady waits until the hub says so.
func notReady(t *testing.T, a hub.Addresses) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		if code, _ := get(t, a.URL+"/readyz", ""); code == http.StatusServiceUnavailable {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it still says that it is ready")
		}
	}
}

func TestAHubThatEndsFinishesWhatItBegan(t *testing.T) {
	a, tell, ended := stopping(t, hub.Config{DataDir: t.TempDir(), DrainDelay: 2 * time.Second})
	token := adminToken(t, a)
	host := strings.TrimPrefix(a.URL, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"cluster":"dev"}`
	fmt.Fprintf(conn, "POST %s/joins HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		client.Prefix, token, len(body), body[:5])
	c, err := client.New(client.Config{URL: a.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := c.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	<-changes // the stream is open
	tell()
	notReady(t, a)
	if code, _ := get(t, a.URL+client.Prefix+"/clusters", token); code != 200 {
		t.Errorf("a request while it is still sent people: %d", code)
	}
	if _, err := io.WriteString(conn, body[5:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("the request that was under way: %v, %v", resp, err)
	}
	if err := ended(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", host); err == nil {
		t.Error("it still listens")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestARequestThatNeverEndsDoesNotHoldAHub(t *testing.T) {
	a, tell, ended := stopping(t, hub.Config{DataDir: t.TempDir()})
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s/joins HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{", client.Prefix)
	tell()
	done := make(chan error, 1)
	go func() { done <- ended() }()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}
