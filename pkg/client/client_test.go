package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// against serves h and returns a client of it.
func against(t *testing.T, h http.HandlerFunc) (*client.Client, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c, err := client.New(client.Config{URL: s.URL, Token: "secret-token", HTTP: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return c, s.URL
}

func TestAddressesThatAreNone(t *testing.T) {
	for _, address := range []string{"", "hub.example.com", "hub:8080", "ftp://hub", "https://", "https://me:pw@hub", "https://hub?x=1", "https://hub#x", "http://a b"} {
		if _, err := client.New(client.Config{URL: address}); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%q: %v", address, err)
		} else if strings.Contains(err.Error(), "pw") {
			t.Errorf("the error holds a password: %v", err)
		}
	}
	if _, err := client.New(client.Config{URL: "https://hub", Token: "two\nlines"}); !errors.Is(err, fleet.ErrInvalid) || strings.Contains(err.Error(), "two") {
		t.Errorf("a token of two lines: %v", err)
	}
	if _, err := client.New(client.Config{URL: "https://hub.example.com/capstan/", Token: "x"}); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoHubIsSaidToBeNone(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a web page":         func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"a proxy's error":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
		"a plain 404":        http.NotFound,
		"a problem too thin": func(w http.ResponseWriter, _ *http.Request) { problem(w, 404, `{}`) },
		"no JSON at all":     func(w http.ResponseWriter, _ *http.Request) { problem(w, 404, `<`) },
	} {
		c, _ := against(t, h)
		_, err := c.Clusters(t.Context(), fleet.ClusterFilter{})
		if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(fleet.Hint(err), "CAPSTAN_HUB") {
			t.Errorf("%s: %v (hint %q)", name, err, fleet.Hint(err))
		}
	}
}

func problem(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", client.ProblemType+"; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func TestAHubThatIsNotThere(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	address := s.URL
	s.Close()
	c, err := client.New(client.Config{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Apps(t.Context(), fleet.AppFilter{})
	if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), address) || strings.Count(err.Error(), "http") != 1 || fleet.Hint(err) == "" {
		t.Errorf("%v (hint %q)", err, fleet.Hint(err))
	}
}

func TestATokenIsNotHandedOn(t *testing.T) {
	got := make(chan string, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	c, _ := against(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	if _, err := c.Clusters(t.Context(), fleet.ClusterFilter{}); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("a redirect: %v", err)
	}
	select {
	case token := <-got:
		t.Errorf("the redirect was followed with %q", token)
	default:
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	c, _ := against(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Clusters(ctx, fleet.ClusterFilter{}); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("too late: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := c.Clusters(ctx, fleet.ClusterFilter{}); !errors.Is(err, context.Canceled) || errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("given up: %v", err)
	}
}

func TestALoginLinkIsTheHubsAsItWasReached(t *testing.T) {
	for answer, want := range map[string]string{
		`{"url":"/login?code=a"}`:                        "/login?code=a", // of the server's own address
		`{"url":"https://hub.example.com/login?code=a"}`: "https://hub.example.com/login?code=a",
	} {
		c, address := against(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		if strings.HasPrefix(want, "/") {
			want = address + want
		}
		if got, err := c.Login(t.Context()); err != nil || got != want {
			t.Errorf("%s: %q, %v", answer, got, err)
		}
	}
}

func TestAWatchThatIsLostGoesOnWhereItEnded(t *testing.T) {
	asked := make(chan string, 10)
	n := 0
	c, _ := against(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Last-Event-ID")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": watching\n\n")
		if n++; n <= 2 {
			_, _ = fmt.Fprintf(w, "id: v%d\nevent: change\ndata: {}\n\n", n)
		} // and the connection is lost
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := c.Watch(ctx, "v0")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"v0", "v1", "v2", "v2"} {
		if got := wait(t, asked, "a connection"); got != want {
			t.Errorf("went on from %q, want %q", got, want)
		}
	}
	if got := wait(t, changes, "the newest version"); got != "v2" {
		t.Errorf("version %q", got)
	}
	cancel()
	for open := true; open; {
		_, open = <-changes
	}
}

func TestAWatchThatCannotBeginSaysWhy(t *testing.T) {
	c, _ := against(t, func(w http.ResponseWriter, _ *http.Request) { problem(w, 403, `{"detail":"not you","hint":"ask"}`) })
	if _, err := c.Watch(t.Context(), ""); !errors.Is(err, fleet.ErrForbidden) || fleet.Hint(err) != "ask" {
		t.Errorf("%v", err)
	}
}

func wait(t *testing.T, c <-chan string, what string) string {
	t.Helper()
	select {
	case v, open := <-c:
		if !open {
			t.Fatalf("closed before %s came", what)
		}
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s", what)
	}
	return ""
}

// FuzzAnswers shows that no answer, of whatever server, makes the client fail.
func FuzzAnswers(f *testing.F) {
	f.Add(200, "application/json", `{"items":[{"cluster":"dev"}]}`)
	f.Add(404, client.ProblemType, `{"detail":"no such","hint":"look"}`)
	f.Add(503, "text/html", `<html>`)
	f.Add(200, "application/json", `{"items":null}`)
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		c, err := client.New(client.Config{URL: "http://hub", HTTP: &http.Client{Transport: answers{status, kind, body}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Apps(t.Context(), fleet.AppFilter{})
		if status/100 != 2 && err == nil {
			t.Errorf("%d is no error", status)
		}
		if err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}

type answers struct {
	status     int
	kind, body string
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Status: "as it is", Request: r, Header: http.Header{"Content-Type": {a.kind}},
		Body: io.NopCloser(strings.NewReader(a.body)),
	}, nil
}
