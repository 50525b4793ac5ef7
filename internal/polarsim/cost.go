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

// Cost returns what the requests of the log have cost.
func (s *Server) Cost() Cost {
	var sum Cost
	for _, r := range s.Requests() {
		sum.Lists += r.Cost.Lists
		sum.Gets += r.Cost.Gets
		sum.SkippedRows += r.Cost.SkippedRows
		sum.Statements += r.Cost.Statements
	}
	return sum
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
