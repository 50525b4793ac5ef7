package polarsim

import (
	"net/http"
	"time"
)

// What the two statements of a list request take at Polar: something for any
// request, something for each row that OFFSET skips, and something for each row
// under the filter, which the count reads.
const (
	ListCost       = 2 * time.Millisecond
	SkippedRowCost = 7 * time.Microsecond
	CountedRowCost = 700 * time.Nanosecond
)

// A Cost is what requests cost Polar's database. Requests that were refused or
// went wrong before they reached it cost nothing.
type Cost struct {
	Lists, Gets int           // requests
	SkippedRows int64         // by OFFSET
	Statements  time.Duration // of list requests, simulated
}

// Cost returns what requests have cost since the start or the last
// [Server.ForgetCost].
func (s *Server) Cost() Cost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cost
}

// ForgetCost counts from zero again.
func (s *Server) ForgetCost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cost = Cost{}
}

func (c Cost) plus(o Cost) Cost {
	return Cost{c.Lists + o.Lists, c.Gets + o.Gets, c.SkippedRows + o.SkippedRows, c.Statements + o.Statements}
}

// scaled is the part of a simulated time that is really waited for.
func (s *Server) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.options.CostScale)
}

// sleep waits, unless the client leaves.
func sleep(r *http.Request, d time.Duration) error {
	if d <= 0 {
		return r.Context().Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}
