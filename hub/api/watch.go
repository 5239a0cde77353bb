package api

import (
	"io"
	"net/http"
	"time"
)

const (
	// streamQuiet is how often a stream says that it is alive; pkg/client gives
	// up on one after three times that.
	streamQuiet = 15 * time.Second
	// streamPause is the least time between two notices: a thousand reports in a
	// second are one change to somebody who looks.
	streamPause = 200 * time.Millisecond
	// streamLife ends a stream, so that a token taken away ends it too.
	streamLife = 15 * time.Minute
)

// watch streams a notice for every change, coalesced. The notice's id is the
// version of the view; who gives it as Last-Event-ID hears at once whether
// there is another by now.
func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	changes, err := s.Hub.Watch(ctx, r.Header.Get("Last-Event-ID"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold notices back
	out := http.NewResponseController(w)
	send := func(text string) bool {
		// It holds until the next write, which comes sooner. As in readBody, a recorder has none.
		_ = out.SetWriteDeadline(time.Now().Add(2 * streamQuiet))
		_, err := io.WriteString(w, text)
		return err == nil && out.Flush() == nil
	}
	if !send(": watching\n\n") {
		return
	}
	alive, end := time.NewTicker(streamQuiet), time.NewTimer(streamLife)
	defer alive.Stop()
	defer end.Stop()
	for ok := true; ok; {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-alive.C:
			ok = send(": still here\n\n")
		case version, open := <-changes:
			if !open {
				return
			}
			ok = send("id: "+version+"\nevent: change\ndata: {}\n\n") && pause(ctx.Done(), streamPause)
		}
	}
}

func pause(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return false
	case <-t.C:
		return true
	}
}
