package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// find returns the document of a key, if it has not had its time. m.mu is held.
func (b *memoryBucket) find(key string) (document, bool) {
	d, ok := b.m.buckets[b.name][key]
	if age := buckets[b.name].maxAge; ok && age > 0 && time.Since(d.at) >= age {
		delete(b.m.buckets[b.name], key)
		return document{}, false
	}
	return d, ok
}

func (b *memoryBucket) Delete(_ context.Context, key string) error {
	return b.remove(key, func(document) bool { return true })
}

func (b *memoryBucket) DeleteIf(_ context.Context, key string, version uint64) error {
	return b.remove(key, func(d document) bool { return d.version == version })
}

func (b *memoryBucket) remove(key string, may func(document) bool) error {
	if err := checkKey(b.name, key); err != nil {
		return err
	}
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	d, ok := b.find(key)
	if !ok {
		return nil
	}
	if !may(d) {
		return fleet.Conflict("%s: %s has changed", b.name, key)
	}
	b.m.version++
	delete(b.m.buckets[b.name], key)
	b.tell(change{key: key, version: b.m.version})
	return nil
}

func (b *memoryBucket) All(_ context.Context, each func(string, []byte, uint64) error) error {
	b.m.mu.Lock()
	var all []change
	for _, key := range slices.Collect(maps.Keys(b.m.buckets[b.name])) {
		if d, ok := b.find(key); ok {
			all = append(all, change{key, slices.Clone(d.value), d.version})
		}
	}
	b.m.mu.Unlock()
	for _, c := range all {
		if err := each(c.key, c.value, c.version); err != nil {
			return err
		}
	}
	return nil
}

// change is a document as it is now; no value: it was deleted.
type change struct {
	key     string
	value   []byte
	version uint64
}

// follower is one call of Follow.
type follower struct {
	bucket string
	mu     sync.Mutex
	news   []change
	wake   chan struct{}
}

// tell is called with m.mu held, so that what is told is in order.
func (b *memoryBucket) tell(c change) {
	for f := range b.m.follows {
		if f.bucket == b.name {
			f.add(c)
		}
	}
}

func (f *follower) add(c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news = append(f.news, c)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) take() []change {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := f.news
	f.news = nil
	return news
}

func (b *memoryBucket) Follow(ctx context.Context, each follow) error {
	f := &follower{bucket: b.name, wake: make(chan struct{}, 1)}
	b.m.mu.Lock()
	for _, key := range slices.Collect(maps.Keys(b.m.buckets[b.name])) {
		if d, ok := b.find(key); ok {
			f.add(change{key, slices.Clone(d.value), d.version})
		}
	}
	f.add(change{})
	b.m.follows[f] = struct{}{}
	b.m.mu.Unlock()
	defer func() {
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		delete(b.m.follows, f)
	}()
	for {
		select {
		case <-f.wake:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", b.name, unavailable(ctx.Err()))
		}
		for _, c := range f.take() {
			if err := each(c.key, c.value, c.version); err != nil {
				return err
			}
		}
	}
}
