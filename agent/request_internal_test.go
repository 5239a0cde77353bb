package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A request that nobody answers ends; a watch, which is answered for hours, does not.
func TestRequestsAreBoundedAndWatchesAreNot(t *testing.T) {
	asked := make(chan struct{}, 1)
	ends := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow-body" || r.URL.Query().Has("watch") {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		asked <- struct{}{}
		select {
		case <-ends:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	client := &http.Client{Transport: bounded(50 * time.Millisecond)(http.DefaultTransport)}
	get := func(path string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(r)
	}
	resp, err := get("/never")
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an answer that never comes: %v", err)
	}
	<-asked
	if resp, err = get("/slow-body"); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an answer that never ends: %v", err)
	}
	resp.Body.Close()
	<-asked
	if resp, err = get("/apis/apps/v1/deployments?watch=true"); err != nil {
		t.Fatal(err)
	}
	<-asked
	time.AfterFunc(200*time.Millisecond, func() { close(ends) }) // well after the bound
	if _, err = io.ReadAll(resp.Body); err != nil {
		t.Errorf("a watch: %v", err)
	}
	resp.Body.Close()
}

// A short pause is client-go's to wait for, a long one the app's.
func TestALongPauseIsAnErrorThatSaysHowLong(t *testing.T) {
	for _, tt := range []struct {
		code   int
		header string
		after  time.Duration // 0: the answer is passed on
	}{
		{http.StatusTooManyRequests, "1", 0},
		{http.StatusTooManyRequests, "60", time.Minute},
		{http.StatusServiceUnavailable, "30", 30 * time.Second},
		{http.StatusTooManyRequests, "Sat, 28 Nov 2026 04:00:00 GMT", 0},
		{http.StatusTooManyRequests, "", 0},
		{http.StatusOK, "60", 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.header != "" {
				w.Header().Set("Retry-After", tt.header)
			}
			w.WriteHeader(tt.code)
		}))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: bounded(time.Minute)(http.DefaultTransport)}).Do(r)
		var busy interface{ RetryAfter() time.Duration }
		switch {
		case tt.after == 0 && (err != nil || resp.StatusCode != tt.code):
			t.Errorf("%d, %q: %v", tt.code, tt.header, err)
		case tt.after != 0 && (!errors.As(err, &busy) || busy.RetryAfter() != tt.after):
			t.Errorf("%d, %q: %v", tt.code, tt.header, err)
		}
		if resp != nil {
			resp.Body.Close()
		}
		server.Close()
	}
}
