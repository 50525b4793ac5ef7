package polarsim

import (
	"net/http"
	"slices"
	"time"
)

// A Fault is one way for an answer to go wrong. Faults come before tokens and
// quotas are looked at, as a proxy's do.
type Fault string

// The faults. Those about pages leave other answers alone.
const (
	NoFault          Fault = ""
	InternalError    Fault = "500 in Polar's words"
	BadGateway       Fault = "502 with a proxy's page in HTML"
	Unavailable      Fault = "503 with an empty body"
	Dropped          Fault = "the connection is closed without an answer"
	CutBody          Fault = "the connection breaks half way through the body"
	NotJSON          Fault = "200 with a page in HTML"
	WrongOrder       Fault = "a page with its rows reversed"
	RepeatedRow      Fault = "a page whose middle row takes the next one's place too"
	EmptyPages       Fault = "an outage behind the API: an empty list, counted as 0"
	LostOrganization Fault = "the token no longer sees any organization: an empty list, counted as 0, and 404 to get"
)

// disturbed returns the answer of a fault that needs no good answer, or nil.
func disturbed(f Fault) *answer {
	const html = "text/html; charset=utf-8"
	switch f {
	case InternalError:
		return jsonAnswer(http.StatusInternalServerError, `{"error":"InternalServerError","detail":"Internal Server Error"}`)
	case BadGateway:
		return newAnswer(http.StatusBadGateway, html, "<!DOCTYPE html>\n<html><head><title>502 Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n")
	case Unavailable:
		return newAnswer(http.StatusServiceUnavailable, "", "")
	case NotJSON:
		return newAnswer(http.StatusOK, html, "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body>Back soon.</body></html>\n")
	}
	return nil
}

// disorder spoils the rows of a page.
func disorder(rows []*row, f Fault) {
	switch {
	case f == WrongOrder:
		slices.Reverse(rows)
	case f == RepeatedRow && len(rows) > 1:
		middle := (len(rows) - 1) / 2
		rows[middle+1] = rows[middle]
	}
}

// keptRequests bounds the request log of a server that runs for weeks.
const keptRequests = 100_000

// A Request is one line of the request log.
type Request struct {
	Path   string
	Query  string // as sent
	Status int    // 0 while it is served, and for those that got no answer
	Cost   Cost   // of those that were served, also if the reader left meanwhile
	At     time.Time
}

// Before makes the server call hook before it looks at a request, which is
// where a test changes data in the middle of a walk. The first request is
// number 1. Requests side by side call it side by side.
func (s *Server) Before(hook func(n int, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = hook
}

// FailWhen asks choose about every request, by its number counted from 1. It may
// be called concurrently; nil ends all faults.
func (s *Server) FailWhen(choose func(n int, r *http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.choose = choose
}

// begin logs a request, calls the hook and decides what goes wrong.
func (s *Server) begin(r *http.Request) (*Request, Fault) {
	line := &Request{Path: r.URL.Path, Query: r.URL.RawQuery, At: s.options.Now()}
	s.mu.Lock()
	s.requests++
	s.log = append(s.log[max(0, len(s.log)+1-keptRequests):], line)
	n, before, choose := s.requests, s.before, s.choose
	s.mu.Unlock() // so that the hooks may change the data
	if before != nil {
		before(n, r)
	}
	if choose == nil {
		return line, NoFault
	}
	return line, choose(n, r)
}

// RequestCount is the number of requests begun.
func (s *Server) RequestCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Requests returns the log in the order in which requests began: all of them,
// or the last hundred thousand if there were very many.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]Request, len(s.log))
	for i, line := range s.log {
		lines[i] = *line
	}
	return lines
}

// ForgetRequests empties the log and counts from 1 again.
func (s *Server) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.log = 0, nil
}
