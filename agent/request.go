package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
)

// requestWithin bounds a request to the API server, its answer read. The server
// gives up after a minute by itself, and its own words are better than silence.
const requestWithin = 70 * time.Second

// bounded ends requests that are not answered, but for watches: what hangs would
// hold a worker. Each request that ends shows that its worker goes on.
func bounded(within time.Duration) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("watch") != "" {
				return next.RoundTrip(r)
			}
			ctx, cancel := context.WithTimeout(r.Context(), within)
			resp, err := next.RoundTrip(r.WithContext(ctx))
			reconcile.Beat(ctx)
			if err != nil {
				cancel()
				return nil, err
			}
			resp.Body = &bounds{resp.Body, cancel}
			return tooBusy(resp)
		})
	}
}

// patience is how long a pause that the API server asks for is waited for with
// the request in hand, as client-go does, ten times at most. For a longer one the
// app waits, and its worker goes on with others.
const patience = 5 * time.Second

// tooBusy makes an error of an answer that asks for a long pause.
func tooBusy(resp *http.Response) (*http.Response, error) {
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 where it is none, or a date
	after := time.Duration(seconds) * time.Second
	if after <= patience || resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < http.StatusInternalServerError {
		return resp, nil
	}
	resp.Body.Close()
	return nil, &busyError{resp.Status, after}
}

// busyError is an API server that asks for a long pause.
type busyError struct {
	status string
	after  time.Duration
}

func (e *busyError) Error() string {
	return fmt.Sprintf("the API server is busy (%s), and asks for a pause of %s", e.status, e.after)
}

// RetryAfter is the pause it asks for.
func (e *busyError) RetryAfter() time.Duration { return e.after }

// bounds ends its request's time with it.
type bounds struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *bounds) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
