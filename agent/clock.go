package agent

import (
	"net/http"
	"sync"
	"time"
)

// clock gives the highest time seen: by this machine, by the API server, and
// before the last restart. An approval's expiry can't be put off by turning a
// clock back.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration // of the highest time seen over this machine's clock
}

// Now is the highest time seen.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// saw takes a time somebody else told.
func (c *clock) saw(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := time.Until(t); d > c.ahead {
		c.ahead = d
	}
}

// wrap reads the Date of every answer of the API server. A second's rounding
// is not taken for a clock that is ahead.
func (c *clock) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			if t, derr := http.ParseTime(resp.Header.Get("Date")); derr == nil {
				c.saw(t)
			}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
