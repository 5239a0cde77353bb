package agent

import (
	"net/http"
	"testing"
	"time"
)

func TestTheTimeIsTheHighestSeen(t *testing.T) {
	var c clock
	ahead := time.Now().Add(time.Hour)
	c.saw(ahead)
	c.saw(time.Now().Add(-24 * time.Hour))
	if now := c.Now(); now.Before(ahead) {
		t.Errorf("it is %s, before %s that was seen", now, ahead)
	}
}

func TestTheTimeOfTheAPIServerCounts(t *testing.T) {
	var c clock
	ahead := time.Now().Add(time.Hour).Truncate(time.Second)
	answer := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{Header: http.Header{"Date": {ahead.UTC().Format(http.TimeFormat)}}}, nil
	})
	if _, err := c.wrap(answer).RoundTrip(nil); err != nil {
		t.Fatal(err)
	}
	if now := c.Now(); now.Before(ahead) {
		t.Errorf("it is %s, before the API server's %s", now, ahead)
	}
}
