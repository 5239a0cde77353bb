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
	log     [][]byte
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
func (m *Memory) Log() Log { return (*memoryLog)(m) }

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
	b.tell(Change{key, slices.Clone(value), b.m.version})
	return b.m.version, nil
}

type memoryLog Memory

func (l *memoryLog) Append(_ context.Context, topic string, entry []byte) error {
	if err := fleet.ValidateName("topic", topic); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, slices.Clone(entry))
	return nil
}

func (l *memoryLog) Last(_ context.Context, n int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.log[max(0, len(l.log)-n):]), nil
}
