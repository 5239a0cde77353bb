package uplink_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/capstan-gitops/capstan/agent/uplink"
)

// lossy passes connections on, until something in between forgets them: then
// both ends still have a connection, and nothing comes through.
type lossy struct {
	net.Listener
	mu    sync.Mutex
	lost  chan struct{} // closed when what is connected by then is forgotten
	conns []net.Conn
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{Listener: l, lost: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			near, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			p.mu.Lock()
			lost := p.lost
			p.conns = append(p.conns, near, far)
			p.mu.Unlock()
			serving.Go(func() { pass(far, near, lost) })
			serving.Go(func() { pass(near, far, lost) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		serving.Wait()
	})
	return p
}

// pass copies until either end closes. What comes once the line is lost goes nowhere.
func pass(to, from net.Conn, lost <-chan struct{}) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-lost:
		default:
			if n > 0 && err == nil {
				_, err = to.Write(b[:n])
			}
			if err != nil {
				to.Close()
			}
		}
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				to.Close()
			}
			return
		}
	}
}

// forget loses the connections there are. New ones are passed on.
func (p *lossy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.lost)
	p.lost = make(chan struct{})
}

func TestALineThatWasForgottenInBetweenIsGivenUp(t *testing.T) {
	// The server's own pings are not what finds it.
	h := newHubWith(t, func(h *fakeHub) { h.options = func(o *server.Options) { o.PingInterval = time.Hour } })
	line := newLossy(t, strings.TrimPrefix(h.srv.ClientURL(), "nats://"))
	h.urls = func() []string { return []string{"nats://" + line.Addr().String()} }
	u := openWith(t, uplink.Config{Token: h.token("j1"), DeadAfter: time.Second}, newSpoke(status("web", "well")), &vault{})
	begin(t, u)
	h.is("all is reported", func() bool { return h.resent == 1 })
	line.forget()
	u.Changed(status("web", "ill"))
	h.is("what was said into the dead line arrives", func() bool { return h.statuses["web"] == "ill" })
}
