package broker

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A cluster's share of the hub. The bursts let an agent of a large cluster
// report all it has at once after the link was gone.
const (
	messageRate  = 200
	messageBurst = 4000
	byteRate     = 512 << 10
	byteBurst    = 16 << 20

	// An agent enrols once, and asks again where the answer got lost.
	enrolRate  = 1
	enrolBurst = 20

	// manyShares is how many shares there are before those that nobody uses go.
	manyShares = 20_000
)

// gate keeps one cluster, or one join token, from taking up what is there for
// all. Names come from credentials, so there are no more of them than were given.
type gate struct {
	mu     sync.Mutex
	shares map[string]*share
}

type share struct{ messages, bytes *rate.Limiter }

// idle tells whether a share that is made anew would be the same.
func (s *share) idle(now time.Time) bool {
	return s.messages.TokensAt(now) >= float64(s.messages.Burst()) && s.bytes.TokensAt(now) >= float64(s.bytes.Burst())
}

func newGate() *gate { return &gate{shares: make(map[string]*share)} }

// allow tells whether a cluster may send a message of a size now.
func (g *gate) allow(cluster string, size int, now time.Time) bool {
	return g.take("up "+cluster, messageRate, messageBurst, size, now)
}

// allowEnrol tells whether the holder of a join token may ask now.
func (g *gate) allowEnrol(join string, size int, now time.Time) bool {
	return g.take("enrol "+join, enrolRate, enrolBurst, size, now)
}

func (g *gate) take(who string, messages rate.Limit, burst, size int, now time.Time) bool {
	g.mu.Lock()
	s := g.shares[who]
	if s == nil {
		g.trim(now)
		s = &share{rate.NewLimiter(messages, burst), rate.NewLimiter(byteRate, byteBurst)}
		g.shares[who] = s
	}
	g.mu.Unlock()
	return s.messages.AllowN(now, 1) && s.bytes.AllowN(now, size)
}

// trim lets shares go that nobody uses, once there are many. mu is held.
func (g *gate) trim(now time.Time) {
	if len(g.shares) < manyShares || len(g.shares)%1000 != 0 {
		return
	}
	for who, s := range g.shares {
		if s.idle(now) {
			delete(g.shares, who)
		}
	}
}
