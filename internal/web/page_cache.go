package web

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errNotReady means that an answer takes longer than the page waits for it. The
// load goes on, so that asking again later finds it.
var errNotReady = errors.New("still being counted")

const (
	// cacheSize bounds how many answers a cache holds.
	cacheSize = 256
	// pause is how many times the duration of a load has to pass before the next one
	// for the same key: however often pages are loaded and however large the mirror
	// is, they take no more than a tenth of the database's time for it.
	pause = 10
)

// A cache answers many callers with one load from the database. Loads outlive the
// request that asked for them and end with the page.
type cache[K comparable, V any] struct {
	fresh time.Duration // age up to which an answer is not loaded again
	stale time.Duration // age up to which it is served while the next load is slow or fails
	load  func(context.Context, K) (V, error)
	ctx   context.Context // of the page
	loads *sync.WaitGroup
	now   func() time.Time

	mu      sync.Mutex
	entries map[K]*entry[V]
}

// An entry is guarded by its cache's mutex.
type entry[V any] struct {
	value   V
	at      time.Time // when the load of value began; zero if none has succeeded
	err     error     // of the last load
	began   time.Time // the last load
	took    time.Duration
	loading chan struct{} // closed when the load ends; nil if none is under way
}

func newCache[K comparable, V any](p *Page, fresh, stale time.Duration, load func(context.Context, K) (V, error)) *cache[K, V] {
	return &cache[K, V]{fresh: fresh, stale: stale, load: load, ctx: p.ctx, loads: &p.loads, now: p.now, entries: map[K]*entry[V]{}}
}

// get returns the answer for key. It waits for a load until ctx ends, and then
// makes do with an older answer.
func (c *cache[K, V]) get(ctx context.Context, key K) (V, error) {
	e, loading := c.start(key)
	if loading != nil {
		select {
		case <-loading:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var zero V
	tolerated := c.now().Sub(e.at) <= max(c.stale, pause*e.took)
	switch {
	case !e.at.IsZero() && (tolerated || e.err == nil && e.loading == nil):
		return e.value, nil
	case e.err != nil:
		return zero, e.err
	default:
		return zero, errNotReady
	}
}

// start begins a load unless the answer is fresh or one is under way. The channel
// is nil if there is nothing to wait for.
func (c *cache[K, V]) start(key K) (*entry[V], <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		c.evict()
		e = &entry[V]{}
		c.entries[key] = e
	}
	rested := !ok || c.now().Sub(e.began) >= max(c.fresh, pause*e.took)
	if e.loading == nil && rested && c.ctx.Err() == nil {
		e.began = c.now()
		e.loading = make(chan struct{})
		c.loads.Go(func() {
			value, err := c.load(c.ctx, key)
			c.mu.Lock()
			defer c.mu.Unlock()
			e.took = c.now().Sub(e.began)
			if e.err = err; err == nil {
				e.value, e.at = value, e.began
			}
			close(e.loading)
			e.loading = nil
		})
	}
	return e, e.loading
}

// evict makes room for an entry: the one whose load is longest ago goes.
func (c *cache[K, V]) evict() {
	for len(c.entries) >= cacheSize {
		var oldest K
		var found *entry[V]
		for key, e := range c.entries {
			if e.loading == nil && (found == nil || e.began.Before(found.began)) {
				oldest, found = key, e
			}
		}
		if found == nil {
			return
		}
		delete(c.entries, oldest)
	}
}
