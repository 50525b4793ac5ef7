package polarsim

import (
	"net/http"
	"slices"
)

// A Fault is one way for an answer to go wrong. Faults come before tokens and
// quotas are looked at, as a proxy's do.
type Fault int

// The faults. Those about pages leave other answers alone.
const (
	NoFault          Fault = iota
	TooManyRequests        // 429 with an empty body and Retry-After
	InternalError          // 500 in Polar's words
	BadGateway             // 502 with a proxy's page in HTML
	Unavailable            // 503 with an empty body
	Dropped                // the connection is closed without an answer
	CutBody                // the connection breaks half way through the body
	Stall                  // half the body, then silence until the client leaves or Release
	Hang                   // no answer until the client leaves or Release; then a good one
	HugeBody               // 200 with a body of HugeBodySize that begins like a page
	NotJSON                // 200 with a page in HTML
	OtherJSON              // 200 with JSON of another shape
	WrongOrder             // a page with its rows reversed
	RepeatedRow            // a page whose middle row takes the next one's place too
	EmptyPages             // an outage behind the API: an empty list, counted as 0
	LostOrganization       // the token no longer sees any: an empty list, counted as 0, and 404 to get
)

// String names the fault.
func (f Fault) String() string {
	names := [...]string{"no fault", "too many requests", "internal error", "bad gateway", "unavailable",
		"dropped connection", "cut body", "stall", "hang", "huge body", "no JSON", "other JSON",
		"wrong order", "repeated row", "empty pages", "lost organization"}
	if f < 0 || int(f) >= len(names) {
		return "unknown fault"
	}
	return names[f]
}

// disturbed returns the answer of a fault that needs no good answer, or nil.
func (s *Server) disturbed(f Fault) *answer {
	const html = "text/html; charset=utf-8"
	switch f {
	case TooManyRequests:
		return tooManyRequests(s.options.RetryAfter)
	case InternalError:
		return jsonAnswer(http.StatusInternalServerError,
			`{"error":"InternalServerError","detail":"Internal Server Error"}`)
	case BadGateway:
		return newAnswer(http.StatusBadGateway, html, []byte("<!DOCTYPE html>\n<html><head>"+
			"<title>502 Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n"))
	case Unavailable:
		return newAnswer(http.StatusServiceUnavailable, "", nil)
	case Dropped:
		return &answer{header: make(http.Header), drop: true}
	case HugeBody:
		a := jsonAnswer(http.StatusOK, `{"items":[`)
		a.pad = s.options.HugeBodySize
		return a
	case NotJSON:
		return newAnswer(http.StatusOK, html, []byte("<!DOCTYPE html>\n<html><head>"+
			"<title>Maintenance</title></head><body>Back soon.</body></html>\n"))
	case OtherJSON:
		return jsonAnswer(http.StatusOK, `{"data":[{"object":"customer_meter"}],"has_more":false}`)
	}
	return nil
}

// spoil breaks a good answer on its way.
func (a *answer) spoil(f Fault) {
	a.cut = f == CutBody && len(a.body) > 1
	a.stall = f == Stall && len(a.body) > 1
}

// disorder returns the rows of a page as a fault would have them.
func disorder(rows []*row, f Fault) []*row {
	switch {
	case len(rows) < 2:
		return rows
	case f == WrongOrder:
		slices.Reverse(rows)
	case f == RepeatedRow:
		middle := (len(rows) - 1) / 2
		rows[middle+1] = rows[middle]
	}
	return rows
}

// FailNext makes the next n requests go wrong, after those that earlier calls
// have taken; a negative n means all until ClearFaults.
func (s *Server) FailNext(f Fault, n int) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.next = append(s.watch.next, pending{f, n})
}

// FailRate makes each request go wrong with probability p, besides what other
// calls ask for; the seed decides which.
func (s *Server) FailRate(f Fault, p float64) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.rates = append(s.watch.rates, rate{f, p})
}

// FailWhen asks choose about every request, by its number counted from 1, before
// other plans; NoFault leaves it to those. It may be called concurrently.
func (s *Server) FailWhen(choose func(n int, r *http.Request) Fault) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.choose = choose
}

// ClearFaults forgets every plan.
func (s *Server) ClearFaults() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.next, s.watch.rates, s.watch.choose = nil, nil, nil
}

// Release lets go of the requests that hang or stall now.
func (s *Server) Release() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	close(s.watch.release)
	s.watch.release = make(chan struct{})
}
