package fetch

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"polarmirror/internal/secret"
)

// Limiters holds one Limiter for each token.
type Limiters struct {
	perMinute int

	mu      sync.Mutex
	byToken map[[32]byte]*Limiter // keyed by hash, so that no token lies in it
}

// NewLimiters makes limiters of so many requests a minute each; 0 is no limit,
// though 429 pauses even then.
func NewLimiters(requestsPerMinute int) *Limiters {
	return &Limiters{perMinute: requestsPerMinute, byToken: map[[32]byte]*Limiter{}}
}

// Interval is how far apart the requests with one token are sent in the long
// run; 0 if there is no limit.
func (l *Limiters) Interval() time.Duration {
	if l.perMinute <= 0 {
		return 0
	}
	perSecond, _ := spread(l.perMinute)
	return time.Duration(float64(time.Second) / perSecond)
}

// For returns the one Limiter of token.
func (l *Limiters) For(token secret.Secret) *Limiter {
	key := token.Sum()
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.byToken[key]
	if limiter == nil {
		limiter = &Limiter{rate: rate.NewLimiter(rate.Inf, 1), probe: make(chan struct{}, 1)}
		limiter.probe <- struct{}{}
		if l.perMinute > 0 {
			perSecond, burst := spread(l.perMinute)
			limiter.rate = rate.NewLimiter(rate.Limit(perSecond), burst)
		}
		l.byToken[key] = limiter
	}
	return limiter
}

// A Limiter paces all requests with one token: evenly, none while paused, and
// the first one alone until it is answered.
//
// Polar holds a token that had no answer for five minutes to 60 requests a minute
// until its next one (source: Polar's open server, nowhere documented). That is more
// than are usually in flight until then; if they are more, 429 says how long to wait.
type Limiter struct {
	rate  *rate.Limiter
	probe chan struct{} // whoever takes the one value is first; closed by its answer

	mu     sync.Mutex
	paused time.Time // until then
}

// spread spaces the requests so that no 60 seconds hold more than perMinute. A
// bucket of burst b, filled at rate r, lets at most b-1+60r pass within 60 s;
// one request in a hundred is left over for the network, which brings requests
// closer together than they were sent.
func spread(perMinute int) (perSecond float64, burst int) {
	burst = max(1, perMinute/100)
	return float64(perMinute-(burst-1)-perMinute/100) / 60, burst
}

// Pause lets no request begin before until. It never shortens a pause.
func (l *Limiter) Pause(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.paused) {
		l.paused = until
	}
}

// wait blocks until a request may be sent. The caller passes first to done.
func (l *Limiter) wait(ctx context.Context) (first bool, err error) {
	select {
	case _, first = <-l.probe:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if err := l.pace(ctx); err != nil {
		l.done(first, false)
		return false, err
	}
	return first, nil
}

// pace waits for the end of a pause and for the request's turn.
func (l *Limiter) pace(ctx context.Context) error {
	for {
		if err := sleep(ctx, time.Until(l.pausedUntil())); err != nil {
			return err
		}
		turn := l.rate.Reserve()
		if err := sleep(ctx, turn.Delay()); err != nil {
			turn.Cancel()
			return err
		}
		// Those whose turn came during a pause take another, else they would
		// all set out at the moment it ends.
		if !l.pausedUntil().After(time.Now()) {
			return nil
		}
	}
}

// done ends a request; answered says that Polar has taken note of the token.
func (l *Limiter) done(first, answered bool) {
	switch {
	case first && answered:
		close(l.probe)
	case first:
		l.probe <- struct{}{}
	}
}

func (l *Limiter) pausedUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
