// Package recent answers costly questions for many who ask at once.
//
// Its invariant: however many ask, a question is under way at most once, and an
// answer or a failure stands for a while before it is asked again. So health
// probes, scrapes and readers of the status page, whatever their number, cost the
// database few connections and a bounded share of its time.
package recent

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"
)

// Options bound a Cache.
type Options struct {
	Timeout time.Duration // of one asking; 0 is none
	Keep    time.Duration // how long an answer stands at least, and a failure, if that is no more than maxFailure

	// Rest is how many times as long as an asking took its outcome stands, if
	// that is longer than Keep: with 19 the question takes a twentieth of the
	// time at most.
	Rest int

	Size int // how many answers are kept; 0 is 256
}

// maxFailure caps how long a quick failure is remembered.
const maxFailure = 30 * time.Second

// A Cache keeps the recent answers to a question about keys. It is safe for
// concurrent use.
type Cache[K comparable, V any] struct {
	opts Options
	ask  func(context.Context, K) (V, error)

	mu      sync.Mutex
	entries map[K]*entry[V]
}

// An Answer is what a question was answered with.
type Answer[V any] struct {
	Value V
	At    time.Time // when the asking began
}

// An entry is guarded by its cache's mutex.
type entry[V any] struct {
	answer Answer[V]     // the last that was no failure
	err    error         // of the last asking
	until  time.Time     // its outcome stands till then
	asking chan struct{} // closed when the asking under way ends; nil if none is
}

// New makes a Cache for a question. The function ask must end soon after its
// context does.
func New[K comparable, V any](opts Options, ask func(context.Context, K) (V, error)) *Cache[K, V] {
	opts.Size = cmp.Or(opts.Size, 256)
	return &Cache[K, V]{opts: opts, ask: ask, entries: map[K]*entry[V]{}}
}

// ErrTimeout means that there was no answer within Options.Timeout.
var ErrTimeout = errors.New("no answer in time")

// Get returns the last answer that was no failure, however old; the zero Answer if
// there is none. It is recent unless there is an error: the question's,
// [ErrTimeout], or that of ctx, until which Get waits for the asking under way. An
// asker who gives up does not end the asking for the others.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (Answer[V], error) {
	e, asking := c.begin(ctx, key)
	var gaveUp error
	if asking != nil {
		select {
		case <-asking:
		case <-ctx.Done():
			gaveUp = ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.answer, cmp.Or(gaveUp, e.err)
}

// begin asks unless the last outcome stands or an asking is under way. There is
// nothing to wait for if the channel is nil.
func (c *Cache[K, V]) begin(ctx context.Context, key K) (*entry[V], <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		c.evict()
		e = &entry[V]{}
		c.entries[key] = e
	}
	if e.asking == nil && !time.Now().Before(e.until) {
		e.asking = make(chan struct{})
		go c.answer(context.WithoutCancel(ctx), key, e)
	}
	return e, e.asking
}

// answer asks and keeps the outcome. Nobody waits for it but those who want its
// answer: it ends with its time-out at the latest.
func (c *Cache[K, V]) answer(ctx context.Context, key K, e *entry[V]) {
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	began := time.Now()
	value, err := c.ask(ctx, key)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ErrTimeout, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := min(c.opts.Keep, maxFailure)
	if e.err = err; err == nil {
		e.answer, keep = Answer[V]{value, began}, c.opts.Keep
	}
	e.until = time.Now().Add(max(keep, time.Duration(c.opts.Rest)*time.Since(began)))
	close(e.asking)
	e.asking = nil
}

// evict makes room for an entry: whichever comes first goes, unless it is being asked.
func (c *Cache[K, V]) evict() {
	for key, e := range c.entries {
		if len(c.entries) < c.opts.Size {
			return
		}
		if e.asking == nil {
			delete(c.entries, key)
		}
	}
}
