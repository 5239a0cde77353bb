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
// as ctx lasts, and goes on from the version that was last seen: what changed
// meanwhile is told then.
func (c *Client) Watch(ctx context.Context, since string) (<-chan string, error) {
	w := &watcher{client: c, out: make(chan string, 1), seen: since}
	stream, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(w.out)
		w.follow(ctx, stream)
	}()
	return w.out, nil
}

// watcher reads one stream after another.
type watcher struct {
	client *Client
	out    chan string
	seen   string // the version last heard of
}

type watchStream struct {
	body  io.ReadCloser
	close context.CancelFunc
}

func (w *watcher) open(ctx context.Context) (*watchStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	header := http.Header{}
	if w.seen != "" {
		header.Set("Last-Event-ID", w.seen)
	}
	res, err := w.client.sendWith(ctx, http.MethodGet, "/watch", nil, nil, header)
	if err != nil {
		cancel()
		return nil, err
	}
	return &watchStream{body: res.Body, close: cancel}, nil
}

// follow reads streams until ctx ends.
func (w *watcher) follow(ctx context.Context, stream *watchStream) {
	wait := watchFirstTry
	for ctx.Err() == nil {
		if stream != nil && w.read(stream) {
			wait = watchFirstTry
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return
		}
		wait = min(2*wait, watchLastTry)
		stream, _ = w.open(ctx) // tried again
	}
	if stream != nil {
		stream.end()
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

// read hands versions on until the stream ends. It tells whether the stream
// ever said anything.
func (w *watcher) read(s *watchStream) (alive bool) {
	defer s.end()
	silence := time.AfterFunc(watchSilence, s.close)
	defer silence.Stop()
	lines := bufio.NewScanner(s.body)
	id, event := "", ""
	for lines.Scan() {
		alive = true
		silence.Reset(watchSilence)
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimPrefix(value, " "); {
		case lines.Text() == "": // the end of an event
			if id != "" {
				w.seen = id
			}
			if event == "change" {
				w.tell()
			}
			id, event = "", ""
		case key == "id":
			id = value
		case key == "event":
			event = value
		}
	}
	return alive
}

// tell hands the newest version on, in place of one that waits to be read.
func (w *watcher) tell() {
	select {
	case <-w.out:
	default:
	}
	w.out <- w.seen
}

func (s *watchStream) end() {
	s.close()
	_ = s.body.Close()
}
