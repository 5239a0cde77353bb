package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Memory is a Store that forgets everything when the process ends.
type Memory struct {
	mu      sync.Mutex
	version uint64
	buckets map[string]map[string]document
	follows map[*follower]struct{}
	audit   memoryLog
	changes memoryLog
}

type document struct {
	value   []byte
	version uint64
	at      time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	m := &Memory{buckets: make(map[string]map[string]document), follows: make(map[*follower]struct{})}
	m.audit, m.changes = memoryLog{m: m}, memoryLog{m: m, most: MaxChanges}
	for name := range buckets {
		m.buckets[name] = make(map[string]document)
	}
	return m
}

// Bucket implements Store.
func (m *Memory) Bucket(name string) Bucket {
	if m.buckets[name] == nil {
		panic("store: no bucket " + name)
	}
	return &memoryBucket{m: m, name: name}
}

// Log implements Store.
func (m *Memory) Log() Log { return &m.audit }

// Changes implements Store.
func (m *Memory) Changes() Log { return &m.changes }

type memoryBucket struct {
	m    *Memory
	name string
}

func (b *memoryBucket) Get(_ context.Context, key string) ([]byte, uint64, error) {
	if err := checkKey(b.name, key); err != nil {
		return nil, 0, err
	}
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	d, ok := b.find(key)
	if !ok {
		return nil, 0, fleet.NotFound("%s: %s is not there", b.name, key)
	}
	return slices.Clone(d.value), d.version, nil
}

func (b *memoryBucket) Put(_ context.Context, key string, value []byte, version uint64) (uint64, error) {
	if err := checkPut(b.name, key, value); err != nil {
		return 0, err
	}
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	if d, _ := b.find(key); d.version != version {
		return 0, fleet.Conflict("%s: %s has changed", b.name, key)
	}
	b.m.version++
	b.m.buckets[b.name][key] = document{slices.Clone(value), b.m.version, time.Now()}
	b.tell(change{key, slices.Clone(value), b.m.version})
	return b.m.version, nil
}

type memoryLog struct {
	m       *Memory
	most    int // of a topic; 0: all
	seq     uint64
	entries []memoryEntry
}

type memoryEntry struct {
	seq   uint64
	at    time.Time
	topic string
	data  []byte
}

func (l *memoryLog) Append(_ context.Context, topic string, entry []byte) error {
	if err := fleet.ValidateName("topic", topic); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.seq++
	l.entries = append(l.entries, memoryEntry{seq: l.seq, at: time.Now(), topic: topic, data: slices.Clone(entry)})
	n := 0
	for i := len(l.entries) - 1; i >= 0 && l.most > 0; i-- {
		if l.entries[i].topic != topic {
			continue
		}
		if n++; n > l.most {
			l.entries = slices.Delete(l.entries, i, i+1)
		}
	}
	return nil
}

func (l *memoryLog) Last(_ context.Context, n int) ([][]byte, error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	var out [][]byte
	for _, e := range l.entries[max(0, len(l.entries)-n):] {
		out = append(out, e.data)
	}
	return out, nil
}
