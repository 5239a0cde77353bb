package uplink

import (
	"sync"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// outbox holds, of each app, the latest status that the hub has not
// acknowledged, in the order in which apps began to wait.
type outbox struct {
	mu      sync.Mutex
	waiting map[fleet.AppName]*letter
	order   []fleet.AppName
	// touched are the apps that changed while all statuses are being collected
	// anew: what was collected of them may be older. Nil at other times.
	touched map[fleet.AppName]bool
	ready   chan struct{}
}

// letter says how an app is; a nil status: it is gone.
type letter struct{ status *fleet.AppStatus }

func newOutbox() *outbox {
	return &outbox{waiting: make(map[fleet.AppName]*letter), ready: make(chan struct{}, 1)}
}

func (o *outbox) put(a fleet.AppName, s *fleet.AppStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.touched != nil {
		o.touched[a] = true
	}
	o.add(a, s)
}

func (o *outbox) add(a fleet.AppName, s *fleet.AppStatus) {
	if o.waiting[a] == nil {
		o.order = append(o.order, a)
	}
	o.waiting[a] = &letter{s}
	o.wake()
}

func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// refill adds what collect returns, but for apps that changed meanwhile.
func (o *outbox) refill(collect func() []fleet.AppStatus) {
	o.mu.Lock()
	o.touched = make(map[fleet.AppName]bool)
	o.mu.Unlock()
	all := collect() // calls out, and may wait for whoever calls put
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range all {
		if a := s.Name(); !o.touched[a] && o.waiting[a] == nil {
			o.add(a, &s)
		}
	}
	o.touched = nil
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.order) == 0
}

// next returns the letter that has waited longest and leaves it in.
func (o *outbox) next() (fleet.AppName, *letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return fleet.AppName{}, nil
	}
	return o.order[0], o.waiting[o.order[0]]
}

// done takes a letter out, unless a later one of the same app has replaced it:
// that one goes to the end.
func (o *outbox) done(a fleet.AppName, sent *letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.order = o.order[1:]
	if o.waiting[a] != sent {
		o.order = append(o.order, a)
		return
	}
	delete(o.waiting, a)
}

// later lets the others go before the letter that has waited longest.
func (o *outbox) later() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) > 1 {
		o.order = append(o.order[1:], o.order[0])
	}
}
