// Package recent answers a costly question for many who ask at once.
//
// Its invariant: however many ask, the question is under way at most once, and
// an answer or a failure stands for a while before the question is asked again.
// So health probes and scrapes, whatever their number, cost the database one
// connection and a bounded share of its time.
package recent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options bound a Value.
type Options struct {
	Timeout time.Duration // of one asking; must be positive
	Keep    time.Duration // how long an answer or a failure stands at least

	// Rest is how many times as long as an asking took its outcome stands, if
	// that is longer than Keep: with 19 the question takes a twentieth of the
	// time at most.
	Rest int
}

// A Value is the recent answer to a question. It is safe for concurrent use.
type Value[T any] struct {
	ask  func(context.Context) (T, error)
	opts Options

	flight singleflight.Group // of refresh, which alone uses what follows
	now    Answer[T]          // the last outcome
	err    error              // likewise
	until  time.Time          // it stands till then

	good atomic.Pointer[Answer[T]] // the last answer that was no failure
}

// An Answer is what a question was answered with.
type Answer[T any] struct {
	Value T
	At    time.Time // when the asking began
}

// New makes a Value of a question. The function ask must end soon after its
// context does.
func New[T any](opts Options, ask func(context.Context) (T, error)) *Value[T] {
	return &Value[T]{ask: ask, opts: opts}
}

// ErrTimeout means that there was no answer within Options.Timeout.
var ErrTimeout = errors.New("no answer in time")

// Get returns the recent answer, or waits for the one under way, asking if
// nobody does. The error is the question's, [ErrTimeout], or that of ctx. An
// asker who gives up does not end the asking for the others.
func (v *Value[T]) Get(ctx context.Context) (Answer[T], error) {
	detached := context.WithoutCancel(ctx)
	refreshed := v.flight.DoChan("", func() (any, error) { return v.refresh(detached) })
	select {
	case r := <-refreshed:
		return r.Val.(Answer[T]), r.Err
	case <-ctx.Done():
		return Answer[T]{}, ctx.Err()
	}
}

// Last returns the last answer that was no failure, however old.
func (v *Value[T]) Last() (Answer[T], bool) {
	if good := v.good.Load(); good != nil {
		return *good, true
	}
	return Answer[T]{}, false
}

// refresh asks if the last outcome does not stand any more. Nobody waits for it but
// those who want its answer: it ends with its time-out at the latest.
func (v *Value[T]) refresh(ctx context.Context) (Answer[T], error) {
	if time.Now().Before(v.until) {
		return v.now, v.err
	}
	ctx, cancel := context.WithTimeout(ctx, v.opts.Timeout)
	defer cancel()
	began := time.Now()
	value, err := v.ask(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ErrTimeout, err)
	}
	v.now, v.err = Answer[T]{value, began}, err
	v.until = time.Now().Add(max(v.opts.Keep, time.Duration(v.opts.Rest)*time.Since(began)))
	if err == nil {
		good := v.now
		v.good.Store(&good)
	}
	return v.now, v.err
}
