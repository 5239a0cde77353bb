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
)

// gate keeps one cluster from taking up what is there for all. Names come from
// credentials, so there are no more of them than agents enrolled.
type gate struct {
	mu     sync.Mutex
	shares map[string]*share
}

type share struct{ messages, bytes *rate.Limiter }

func newGate() *gate { return &gate{shares: make(map[string]*share)} }

func (g *gate) allow(cluster string, size int, now time.Time) bool {
	g.mu.Lock()
	s := g.shares[cluster]
	if s == nil {
		s = &share{rate.NewLimiter(messageRate, messageBurst), rate.NewLimiter(byteRate, byteBurst)}
		g.shares[cluster] = s
	}
	g.mu.Unlock()
	return s.messages.AllowN(now, 1) && s.bytes.AllowN(now, size)
}
