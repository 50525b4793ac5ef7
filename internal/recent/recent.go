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
	"sync"
	"time"
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

	mu      sync.Mutex
	pending chan struct{} // closed when the asking under way ends; nil if there is none
	now     Answer[T]     // the last outcome
	until   time.Time     // it stands till then
	good    Answer[T]     // the last answer that was no failure
}

// An Answer is what came of asking.
type Answer[T any] struct {
	Value T
	Err   error
	At    time.Time // when the asking began; zero if nobody ever asked
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
	v.mu.Lock()
	if v.pending == nil {
		if time.Now().Before(v.until) {
			defer v.mu.Unlock()
			return v.now, v.now.Err
		}
		v.pending = make(chan struct{})
		go v.renew(context.WithoutCancel(ctx))
	}
	pending := v.pending
	v.mu.Unlock()

	select {
	case <-pending:
	case <-ctx.Done():
		return Answer[T]{}, ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now, v.now.Err
}

// Last returns the last answer that was no failure, however old.
func (v *Value[T]) Last() (Answer[T], bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.good, !v.good.At.IsZero()
}

// renew asks. Nobody waits for it but those who want its answer: it ends with
// its time-out at the latest.
func (v *Value[T]) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, v.opts.Timeout)
	defer cancel()
	began := time.Now()
	value, err := v.ask(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ErrTimeout, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now = Answer[T]{Value: value, Err: err, At: began}
	if err == nil {
		v.good = v.now
	}
	took := time.Since(began)
	v.until = time.Now().Add(max(v.opts.Keep, time.Duration(v.opts.Rest)*took))
	close(v.pending)
	v.pending = nil
}
