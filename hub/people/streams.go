package people

import (
	"context"
	"sync"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// maxStreams is how many streams one identity may have open: of each the hub
// keeps a connection, and those are what agents come over as well.
const maxStreams = 200

// streams bounds how many each identity has.
type streams struct {
	mu sync.Mutex
	of map[string]int
}

// open counts a stream until ctx ends. ErrTooOften: there are too many already.
func (s *streams) open(ctx context.Context, id fleet.Identity) error {
	key := keyOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[key] >= maxStreams {
		return fleet.WithHint(fleet.TooOften("%q has %d streams open already", id.Name, maxStreams), "close some, or ask for what changed now and then")
	}
	s.of[key]++
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.of[key]--; s.of[key] == 0 {
			delete(s.of, key)
		}
	})
	return nil
}

// keyOf tells identities apart.
func keyOf(id fleet.Identity) string { return id.Via + " " + id.Name }
