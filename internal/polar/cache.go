package polar

import (
	"bytes"
	"hash/maphash"
	"sync"
)

const (
	cacheSize   = 512      // objects of one generation
	cachedBytes = 16 << 10 // larger objects are not kept
)

// A cache holds nested objects by their bytes: a customer has several customer
// meters, there are few meters, and most pages repeat what an earlier one
// showed. The younger of two generations becomes the older when it is full, so
// that memory is bounded and what is met again and again stays.
type cache[T any] struct {
	seed maphash.Seed
	raw  func(*T) []byte

	mu         sync.Mutex
	young, old map[uint64]*T
}

func newCache[T any](raw func(*T) []byte) *cache[T] {
	return &cache[T]{seed: maphash.MakeSeed(), raw: raw, young: make(map[uint64]*T)}
}

// get returns the object of these bytes, nil if it is not there.
func (c *cache[T]) get(raw []byte) *T {
	hash := maphash.Bytes(c.seed, raw)
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.young[hash]; v != nil && bytes.Equal(c.raw(v), raw) {
		return v
	}
	v := c.old[hash]
	if v == nil || !bytes.Equal(c.raw(v), raw) {
		return nil
	}
	c.insert(hash, v)
	return v
}

func (c *cache[T]) put(v *T) {
	raw := c.raw(v)
	if len(raw) > cachedBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(maphash.Bytes(c.seed, raw), v)
}

func (c *cache[T]) insert(hash uint64, v *T) {
	if len(c.young) >= cacheSize {
		c.young, c.old = make(map[uint64]*T), c.young
	}
	c.young[hash] = v
}
