package polarsim

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// keptRequests bounds the request log of a server that runs for weeks.
const keptRequests = 100_000

// A Request is one line of the request log.
type Request struct {
	N       int // counted from 1
	Method  string
	Path    string
	Query   string // as sent
	Version string // the Polar-Version asked for; empty if none
	Status  int    // 0 while it is served, and for those that got no answer
	At      time.Time
}

// A watch is what tests see of requests and do to them. It has a lock of its
// own, so that hooks may change the server's data.
type watch struct {
	mu         sync.Mutex
	count      int
	log        []Request // the last ones
	before     func(n int, r *http.Request)
	afterCount func(n int, r *http.Request, took time.Duration)
	choose     func(n int, r *http.Request) Fault
	next       []pending
	rates      []rate
	chance     *rand.Rand
	release    chan struct{}
}

type pending struct {
	fault Fault
	left  int
}

type rate struct {
	fault Fault
	p     float64
}

func (w *watch) init(chance *rand.Rand) {
	w.chance = chance
	w.release = make(chan struct{})
}

// Before makes the server call hook before it looks at a request, which is
// where a test changes data in the middle of a walk. The first request is
// number 1. Requests side by side call it side by side.
func (s *Server) Before(hook func(n int, r *http.Request)) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.before = hook
}

func (w *watch) begin(r *http.Request, now time.Time) (int, func(int, *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	if len(w.log) >= 2*keptRequests {
		w.log = append(w.log[:0], w.log[len(w.log)-keptRequests:]...)
	}
	w.log = append(w.log, Request{
		N:       w.count,
		Method:  r.Method,
		Path:    r.URL.Path,
		Query:   r.URL.RawQuery,
		Version: r.Header.Get(versionHeader),
		At:      now,
	})
	return w.count, w.before
}

func (w *watch) end(n, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := n - 1 - (w.count - len(w.log)); i >= 0 && i < len(w.log) {
		w.log[i].Status = status
	}
}

// fault decides about a request.
func (w *watch) fault(n int, r *http.Request) Fault {
	w.mu.Lock()
	choose := w.choose
	w.mu.Unlock()
	if choose != nil {
		if f := choose(n, r); f != NoFault {
			return f
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.next) > 0 && w.next[0].left == 0 {
		w.next = w.next[1:]
	}
	if len(w.next) > 0 {
		w.next[0].left-- // a negative one never comes to 0
		return w.next[0].fault
	}
	for _, r := range w.rates {
		if w.chance.Float64() < r.p {
			return r.fault
		}
	}
	return NoFault
}

func (w *watch) released() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.release
}

// RequestCount is the number of requests begun.
func (s *Server) RequestCount() int {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return s.watch.count
}

// Requests returns the log in the order in which requests began: all of them,
// or the last hundred thousand if there were very many.
func (s *Server) Requests() []Request {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return slices.Clone(s.watch.log)
}

// RequestsTo counts the logged requests to a path.
func (s *Server) RequestsTo(path string) int {
	n := 0
	for _, r := range s.Requests() {
		if r.Path == path {
			n++
		}
	}
	return n
}

// ForgetRequests empties the log and counts from 1 again.
func (s *Server) ForgetRequests() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.count, s.watch.log = 0, nil
}
