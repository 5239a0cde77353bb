package hooks

import "sync"

// remembered is how many deliveries are known again. A forge repeats one within
// minutes or by a person's hand.
const remembered = 4096

// memory is the deliveries that were taken, the oldest of which are forgotten.
type memory struct {
	mu   sync.Mutex
	ids  map[string]int // where in ring
	ring [remembered]string
	next int
}

func newMemory() *memory { return &memory{ids: make(map[string]int)} }

// add tells whether id is new, and remembers it.
func (m *memory) add(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.ids[id]; known {
		return false
	}
	delete(m.ids, m.ring[m.next])
	m.ring[m.next], m.ids[id] = id, m.next
	m.next = (m.next + 1) % remembered
	return true
}

func (m *memory) drop(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, known := m.ids[id]; known {
		delete(m.ids, id)
		m.ring[at] = ""
	}
}
