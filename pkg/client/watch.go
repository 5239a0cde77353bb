package client

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	// The hub sends a comment every 15 s on a quiet stream; when three are
	// missing the connection is gone, though TCP may not have noticed.
	watchSilence  = 45 * time.Second
	watchFirstTry = 200 * time.Millisecond
	watchLastTry  = 15 * time.Second
)

// Watch implements fleet.Hub. The first connection is made before it returns,
// and its error is returned. A connection lost later is made again, for as long
// as ctx lasts; something is sent then, because a change may have been missed.
func (c *Client) Watch(ctx context.Context) (<-chan struct{}, error) {
	stream, err := c.openWatch(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		c.follow(ctx, stream, out)
	}()
	return out, nil
}

type watchStream struct {
	body  io.ReadCloser
	close context.CancelFunc
}

func (c *Client) openWatch(ctx context.Context) (*watchStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	res, err := c.send(ctx, http.MethodGet, "/watch", nil, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	return &watchStream{body: res.Body, close: cancel}, nil
}

// follow reads streams until ctx ends.
func (c *Client) follow(ctx context.Context, stream *watchStream, out chan<- struct{}) {
	wait := watchFirstTry
	for ctx.Err() == nil {
		if stream != nil {
			if stream.read(func() { notify(out) }) {
				wait = watchFirstTry
			}
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return
		}
		wait = min(2*wait, watchLastTry)
		var err error
		if stream, err = c.openWatch(ctx); err == nil {
			notify(out)
		}
	}
	if stream != nil {
		stream.end()
	}
}

func notify(out chan<- struct{}) {
	select {
	case out <- struct{}{}:
	default: // one is waiting to be read already
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// read calls changed for each change until the stream ends. It tells whether
// the stream ever said anything.
func (s *watchStream) read(changed func()) (alive bool) {
	defer s.end()
	silence := time.AfterFunc(watchSilence, s.close)
	defer silence.Stop()
	lines := bufio.NewScanner(s.body)
	for lines.Scan() {
		alive = true
		silence.Reset(watchSilence)
		if strings.HasPrefix(lines.Text(), "event: change") {
			changed()
		}
	}
	return alive
}

func (s *watchStream) end() {
	s.close()
	_ = s.body.Close()
}
