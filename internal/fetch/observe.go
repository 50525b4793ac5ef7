package fetch

import (
	"context"
	"net/http"
	"time"
)

// An Observer is told what clients do, for metrics. Its methods are called from
// many goroutines and must not block.
type Observer interface {
	// Waited says how long a request stood in the line of its token.
	Waited(organization string, wait time.Duration)
	// Requested says what came of one request; elapsed is the time until its
	// whole answer was there, 0 if none came.
	Requested(organization string, answer Answer, elapsed time.Duration)
	// Retried says that a request is sent again after a failure other than 429.
	Retried(organization string)
}

// An Answer is what came of one request, as a class of few values.
type Answer string

// The classes of answers. Together they count every request sent.
const (
	Answered      Answer = "2xx"
	Unusable      Answer = "unusable" // 2xx with a body that is no answer to the call
	Redirected    Answer = "3xx"
	Refused       Answer = "4xx" // but for 429
	TooMany       Answer = "429"
	ServerFailure Answer = "5xx"
	NoAnswer      Answer = "none"     // no connection, no whole answer in time
	Canceled      Answer = "canceled" // given up, since the run was told to stop
)

// Answers are all classes.
func Answers() []Answer {
	return []Answer{Answered, Unusable, Redirected, Refused, TooMany, ServerFailure, NoAnswer, Canceled}
}

// classify returns the class of a request that ended with f, nil for success.
func classify(ctx context.Context, f *failure) Answer {
	switch {
	case f == nil:
		return Answered
	case f.status == 0 && ctx.Err() != nil:
		return Canceled
	case f.status == 0:
		return NoAnswer
	case f.status == http.StatusTooManyRequests:
		return TooMany
	case f.status < 300:
		return Unusable
	case f.status < 400:
		return Redirected
	case f.status < 500:
		return Refused
	}
	return ServerFailure
}

// noObserver is the Observer of a client that has none.
type noObserver struct{}

func (noObserver) Waited(string, time.Duration)            {}
func (noObserver) Requested(string, Answer, time.Duration) {}
func (noObserver) Retried(string)                          {}
