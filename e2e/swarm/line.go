package swarm

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// Line is the way from agents to servers, and can be cut.
type Line struct {
	listener net.Listener
	targets  []string
	wg       sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

// NewLine passes on what comes to its address to any of the targets that is there.
func NewLine(ctx context.Context, targets []string) (*Line, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	line := &Line{listener: l, targets: targets, conns: make(map[net.Conn]struct{})}
	line.wg.Go(line.accept)
	return line, nil
}

// Address is host:port.
func (l *Line) Address() string { return l.listener.Addr().String() }

func (l *Line) accept() {
	for {
		c, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.wg.Go(func() { l.pass(c) })
		}
	}
}

func (l *Line) pass(near net.Conn) {
	defer near.Close()
	far := l.dial()
	if far == nil {
		return
	}
	defer far.Close()
	if !l.hold(near, far) {
		return
	}
	defer l.release(near, far)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // it ends when either side does
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
}

func (l *Line) dial() net.Conn {
	for _, i := range rand.Perm(len(l.targets)) {
		c, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.targets[i])
		if err == nil {
			return c
		}
	}
	return nil
}

// hold tells whether the line is up.
func (l *Line) hold(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	for _, c := range conns {
		l.conns[c] = struct{}{}
	}
	return true
}

func (l *Line) release(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		delete(l.conns, c)
	}
}

// Cut ends every connection, in the middle of whatever is under way, and lets
// no other come about until Mend.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		c.Close()
	}
}

// Mend lets connections come about again.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// Close cuts the line for good.
func (l *Line) Close() {
	l.Cut()
	l.listener.Close()
	l.wg.Wait()
}
