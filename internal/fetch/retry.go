package fetch

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"
)

// Retry says how a request that failed is sent again: after a random part of
// InitialInterval, then of a span that grows by Exponent each time up to
// MaxInterval, until MaxElapsedTime has passed since the first failure. Zero
// fields but the last have the defaults 500 ms, 60 s, 1.5 and 1 h.
type Retry struct {
	InitialInterval       time.Duration
	MaxInterval           time.Duration
	Exponent              float64
	MaxElapsedTime        time.Duration
	RetryConnectionErrors bool // also when no answer came at all
}

func (r Retry) withDefaults() Retry {
	r.InitialInterval = cmp.Or(r.InitialInterval, 500*time.Millisecond)
	r.MaxInterval = max(cmp.Or(r.MaxInterval, time.Minute), r.InitialInterval)
	r.Exponent = cmp.Or(r.Exponent, 1.5)
	r.MaxElapsedTime = cmp.Or(r.MaxElapsedTime, time.Hour)
	return r
}

// backoff is the wait after n failures: full jitter, which spreads those who
// failed together best.
func (r Retry) backoff(n int) time.Duration {
	ceiling := float64(r.InitialInterval) * math.Pow(r.Exponent, float64(n-1))
	ceiling = min(ceiling, float64(r.MaxInterval))
	return rand.N(time.Duration(ceiling) + 1)
}

// A class is what a failure calls for.
type class int

const (
	fatal        class = iota // nothing that we send again helps
	transient                 // back off and try again
	misdirected               // likely a wrong address: try again a few times
	rateLimited               // wait as told, then go on
	unauthorized              // look for a newer token once
)

// Bounds that hold beside Retry.MaxElapsedTime.
const (
	// maxMisdirected is how often a request is sent whose answers look like
	// those of another server (a proxy's page while it restarts, or a wrong
	// base_url). With the defaults the attempts span up to some 4 s; an hour
	// of them would only hide the mistake.
	maxMisdirected = 5
	// maxPause bounds one Retry-After, after which Polar is asked again. Its
	// own say a minute at most; a broken one must not stop a mirror for days.
	maxPause = 15 * time.Minute
)

// A failure is one attempt's.
type failure struct {
	err        error
	class      class
	status     int           // 0 if there was no answer
	retryAfter time.Duration // as the answer asked; 0 if it did not
}

// attempts keeps count of the failures of one request and decides about its next attempt.
type attempts struct {
	retry        Retry
	failed       int       // failures of whichever class but rateLimited
	misdirected  int       // of which misdirected
	failingSince time.Time // end of the first
	limited      int       // answers 429 in a row
	limitedSince time.Time // the first of them
	refreshed    bool      // a newer token was looked for
}

// next returns how long to wait after f before the next attempt; again is false
// if there is to be none.
func (a *attempts) next(f failure, now time.Time) (wait time.Duration, again bool) {
	if f.class == rateLimited {
		return a.nextLimited(f, now)
	}
	a.limited = 0
	a.failed++
	if a.failed == 1 {
		a.failingSince = now
	}
	switch f.class {
	case fatal, unauthorized:
		return 0, false
	case misdirected:
		if a.misdirected++; a.misdirected >= maxMisdirected {
			return 0, false
		}
	}
	wait = max(a.retry.backoff(a.failed), min(f.retryAfter, a.retry.MaxInterval))
	return wait, now.Add(wait).Sub(a.failingSince) <= a.retry.MaxElapsedTime
}

// nextLimited is next for 429, which is no failure: only if Polar says nothing
// else for longer than MaxElapsedTime does the request end.
func (a *attempts) nextLimited(f failure, now time.Time) (wait time.Duration, again bool) {
	a.limited++
	if a.limited == 1 {
		a.limitedSince = now
	}
	wait = min(f.retryAfter, maxPause)
	if wait <= 0 { // Retry-After is missing, or of no use: at least a second
		doubled := time.Second << min(a.limited-1, 10)
		wait = min(doubled, max(a.retry.MaxInterval, time.Second))
	}
	return wait, now.Sub(a.limitedSince) <= a.retry.MaxElapsedTime
}
