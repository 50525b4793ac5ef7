package web

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errNotReady means that the answer takes longer than a page may wait for it.
// The look goes on, so that asking again later finds it.
var errNotReady = errors.New("still being counted")

// shelfSize bounds how many answers a shelf holds.
const shelfSize = 256

// work is what goes on behind a page: looks at the database that outlive the
// request that asked for them. They end with the page.
type work struct {
	ctx     context.Context
	running sync.WaitGroup
}

// rest is how many times the duration of a look has to pass before the next one
// for the same answer: pages never take more than a tenth of the database's time
// for it, however often they are loaded and however large the mirror is.
const rest = 10

// A shelf holds answers for a while. However many ask for one, there is one
// look at the database for it; who can't wait for it gets the last answer.
type shelf[K comparable, V any] struct {
	fresh    time.Duration // age up to which an answer is served without another look
	stale    time.Duration // age up to which it is served while another look takes its time
	patience time.Duration // how long a caller waits for a look
	load     func(context.Context, K) (V, error)
	work     *work
	now      func() time.Time

	mu      sync.Mutex
	answers map[K]*answer[V]
}

// An answer is one of a shelf; the shelf's mutex guards it.
type answer[V any] struct {
	value   V
	at      time.Time // when the look for value began; zero before the first
	took    time.Duration
	err     error // of the last look
	asked   time.Time
	looking chan struct{} // closed when the look under way ends; nil if there is none
}

// get returns the answer for key, and when it was true.
func (s *shelf[K, V]) get(ctx context.Context, key K) (V, time.Time, error) {
	a, looking := s.ask(key)
	if looking != nil {
		timer := time.NewTimer(s.patience)
		defer timer.Stop()
		select {
		case <-looking:
		case <-timer.C:
		case <-ctx.Done():
			var zero V
			return zero, time.Time{}, ctx.Err()
		}
	}
	return s.result(a)
}

// ask notes that somebody wants key, and begins a look unless the answer is
// fresh. Its channel is nil if there is nothing to wait for.
func (s *shelf[K, V]) ask(key K) (*answer[V], <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.answers[key]
	if !ok {
		s.makeRoom()
		a = &answer[V]{}
		s.answers[key] = a
	}
	now := s.now()
	if a.looking == nil && (ok && now.Sub(a.asked) < max(s.fresh, rest*a.took) || s.work.ctx.Err() != nil) {
		return a, nil
	}
	if a.looking == nil {
		a.asked = now
		a.looking = make(chan struct{})
		s.work.running.Go(func() { s.look(key, a) })
	}
	return a, a.looking
}

func (s *shelf[K, V]) look(key K, a *answer[V]) {
	began := s.now()
	value, err := s.load(s.work.ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	a.took = s.now().Sub(began)
	if a.err = err; err == nil {
		a.value, a.at = value, began
	}
	close(a.looking)
	a.looking = nil
}

func (s *shelf[K, V]) result(a *answer[V]) (V, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var zero V
	age := s.now().Sub(a.at)
	switch {
	case !a.at.IsZero() && (age <= max(s.stale, rest*a.took) || a.err == nil && a.looking == nil):
		return a.value, a.at, nil
	case a.err != nil:
		return zero, time.Time{}, a.err
	default:
		return zero, time.Time{}, errNotReady
	}
}

// makeRoom drops the answers that were asked for longest ago.
func (s *shelf[K, V]) makeRoom() {
	if s.answers == nil {
		s.answers = make(map[K]*answer[V])
	}
	for len(s.answers) >= shelfSize {
		var oldest K
		var at time.Time
		found := false
		for key, a := range s.answers {
			if a.looking == nil && (!found || a.asked.Before(at)) {
				oldest, at, found = key, a.asked, true
			}
		}
		if !found {
			return
		}
		delete(s.answers, oldest)
	}
}
