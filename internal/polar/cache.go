package polar

import (
	"bytes"
	"hash/maphash"
	"sync"
)

const (
	cacheSize   = 1024     // objects
	cachedBytes = 16 << 10 // larger objects are not kept
)

// A cache holds nested objects by their bytes: a customer has several customer
// meters, there are few meters, and most pages repeat what an earlier one
// showed. When it is full it begins anew, so that memory is bounded.
type cache[T any] struct {
	seed maphash.Seed
	raw  func(*T) []byte

	mu     sync.Mutex
	byHash map[uint64]*T
}

func newCache[T any](raw func(*T) []byte) *cache[T] {
	return &cache[T]{seed: maphash.MakeSeed(), raw: raw, byHash: make(map[uint64]*T)}
}

// get returns the object of these bytes, nil if it is not there.
func (c *cache[T]) get(raw []byte) *T {
	hash := maphash.Bytes(c.seed, raw)
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.byHash[hash]; v != nil && bytes.Equal(c.raw(v), raw) {
		return v
	}
	return nil
}

func (c *cache[T]) put(v *T) {
	raw := c.raw(v)
	if len(raw) > cachedBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byHash) >= cacheSize {
		clear(c.byHash)
	}
	c.byHash[maphash.Bytes(c.seed, raw)] = v
}
