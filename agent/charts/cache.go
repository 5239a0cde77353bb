package charts

import (
	"container/list"
	"sync"
	"time"
)

// shortly is how long something counts that may be another thing tomorrow: an
// index, a tag. It spares a burst of renders, no more.
const shortly = time.Minute

// cache keeps what was fetched within a bound; what was asked for longest ago
// goes first.
type cache struct {
	mu    sync.Mutex
	most  int
	size  int
	order *list.List // of *kept, the last one asked for at the front
	items map[string]*list.Element
}

type kept struct {
	key     string
	content []byte
	until   time.Time // zero: its digest was checked, and it can't change
}

func newCache(most int) *cache {
	return &cache{most: most, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache) get(key string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return nil
	}
	k := e.Value.(*kept)
	if !k.until.IsZero() && time.Now().After(k.until) {
		c.drop(e)
		return nil
	}
	c.order.MoveToFront(e)
	return k.content
}

func (c *cache) put(key string, content []byte, forGood bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[key]; ok {
		c.drop(e)
	}
	if len(content) > c.most {
		return
	}
	k := &kept{key: key, content: content}
	if !forGood {
		k.until = time.Now().Add(shortly)
	}
	c.items[key] = c.order.PushFront(k)
	for c.size += len(content); c.size > c.most; {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	k := e.Value.(*kept)
	c.order.Remove(e)
	delete(c.items, k.key)
	c.size -= len(k.content)
}
