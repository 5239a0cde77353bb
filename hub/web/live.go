package web

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

const (
	// liveQuiet is how often a page is looked at though nothing was reported:
	// "seen 2 minutes ago" grows older by itself.
	liveQuiet = 15 * time.Second
	// livePause is the least time between two versions of a page, for the reader
	// as much as for the hub.
	livePause = time.Second
	// liveLife ends a stream; the browser opens the next and is authenticated again.
	liveLife = 15 * time.Minute
)

// live streams a page's changing part as server-sent events, whenever it
// differs from what was sent before.
func (s *site) live(p *page, build builder) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), liveLife)
		defer cancel()
		r = r.WithContext(ctx)
		changes, err := s.Hub.Watch(ctx, "")
		if err != nil {
			s.fail(w, r, err)
			return
		}
		first, err := s.fragment(r, p, build)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
		st := stream{w: w, c: http.NewResponseController(w)}
		if st.send("live", first) != nil {
			return
		}
		s.follow(r, &st, changes, p, build)
	}
}

func (s *site) follow(r *http.Request, st *stream, changes <-chan string, p *page, build builder) {
	alive := time.NewTicker(liveQuiet)
	defer alive.Stop()
	pause := time.NewTimer(livePause)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-alive.C:
		case <-r.Context().Done():
			return
		}
		pause.Reset(livePause)
		if _, err := s.who(r); err != nil {
			return // logged out meanwhile, for one; the browser asks again and is told
		}
		html, err := s.fragment(r, p, build)
		if err != nil {
			// What is shown is marked as old by the page itself when the stream ends;
			// the browser tries again and reads the error then.
			s.Log.DebugContext(r.Context(), "live page ended", "path", r.URL.Path, "error", err)
			return
		}
		if st.send("live", html) != nil {
			return
		}
	}
}

func (s *site) fragment(r *http.Request, p *page, build builder) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	data, err := build(r.WithContext(ctx), true)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = p.ExecuteTemplate(&b, "live", data)
	return b.Bytes(), err
}

type stream struct {
	w    io.Writer
	c    *http.ResponseController
	last []byte
}

// send writes one event, or a sign of life when it would repeat the last.
func (st *stream) send(event string, data []byte) error {
	var b bytes.Buffer
	if bytes.Equal(data, st.last) {
		b.WriteString(": still here\n\n")
	} else {
		st.last = data
		b.WriteString("event: " + event + "\n")
		for line := range bytes.Lines(data) {
			b.WriteString("data: ")
			b.Write(bytes.TrimRight(line, "\r\n"))
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	// It holds until the next write, which comes sooner. A recorder in a test has none.
	_ = st.c.SetWriteDeadline(time.Now().Add(2 * liveQuiet))
	if _, err := st.w.Write(b.Bytes()); err != nil {
		return err
	}
	return st.c.Flush()
}
