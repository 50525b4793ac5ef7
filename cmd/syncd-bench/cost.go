package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"polarmirror/internal/polarsim"
)

// A cost is what requests cost Polar, by the simulation's cost model.
type cost struct {
	Requests    int64         `json:"requests"`
	SkippedRows int64         `json:"skipped_rows"` // by OFFSET
	Statements  time.Duration `json:"statements_ns"`

	// Takes is how long the requests take. It is computed instead of waited for:
	// each takes what the limit dictates for one or, if that is longer, its
	// statements' time divided by the requests in flight. The network's and the
	// reader's own time are left out.
	Takes time.Duration `json:"takes_ns"`
}

// dictated is the time from one request to the next that the limit dictates.
const dictated = time.Minute / polarLimit

// add adds a request of a reader that has so many in flight.
func (c *cost) add(skipped int64, statement time.Duration, inFlight int) {
	c.Requests++
	c.SkippedRows += skipped
	c.Statements += statement
	c.Takes += max(dictated, statement/time.Duration(inFlight))
}

// inTurn is how long the requests take at most: no statement runs beside another, or
// while the reader waits for its next request.
func (c *cost) inTurn() time.Duration { return time.Duration(c.Requests)*dictated + c.Statements }

// A costHandler adds up what requests cost. They are answered one at a time, as by
// the simulation itself.
type costHandler struct {
	sim *polarsim.Server

	mu   sync.Mutex
	cost cost
}

// ServeHTTP answers one request.
func (h *costHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sim.ForgetCost()
	h.sim.ServeHTTP(w, r)
	c := h.sim.Cost()
	h.cost.add(c.SkippedRows, c.Statements, connections)
}

// take returns the cost since the last call.
func (h *costHandler) take() cost {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.cost
	h.cost = cost{}
	return c
}

// sdkLoop is what a loop over the pages costs that Polar's SDK returns: a hundred
// rows each, in the default order, one after the other.
func sdkLoop(rows int) cost {
	var c cost
	for offset := 0; offset < rows; offset += pageSize {
		statement := polarsim.ListCost + time.Duration(offset)*polarsim.SkippedRowCost + time.Duration(rows)*polarsim.CountedRowCost
		c.add(int64(offset), statement, 1)
	}
	return c
}

// The ways of reading everything whose costs are compared.
const (
	readFirst = "first load"
	readFull  = "full run"
	readWalk  = "full run, --walk"
	readSDK   = "SDK's loop"
)

// A costReport is what it costs Polar that everything is read.
type costReport struct {
	Rows   int    `json:"customer_meters"`
	Meters int    `json:"meters"`
	Reads  []read `json:"reads"`
}

// A read is one of these ways.
type read struct {
	Name        string `json:"name"`
	Method      string `json:"method,omitempty"` // sweep or walk, of syncd's
	Cost        cost   `json:"cost"`
	PeakBytes   int64  `json:"peak_memory_bytes,omitempty"`
	NewVersions int64  `json:"new_row_versions"`
}

// metersTried returns the numbers of meters with which the cost is measured: the
// usual one and, at one size, few and many.
func metersTried(rows int) []int {
	if rows == 100_000 {
		return []int{usualMeters, 1, 12}
	}
	return []int{usualMeters}
}

// costs measures what it costs Polar that syncd reads everything, and computes what
// the SDK's loop costs.
func (b *bench) costs(ctx context.Context, rows, meters int) (*costReport, error) {
	b.say("%s customer meters, %d of a customer: cost at Polar", count(rows), meters)
	p, err := startPolar(ctx, polarSpec{Rows: rows, Meters: meters, Cost: true})
	if err != nil {
		return nil, err
	}
	defer p.close()
	s := &sizing{bench: b, sizeReport: &sizeReport{Rows: rows}, polar: p}
	m, err := s.migrated(ctx, "cost")
	if err != nil {
		return nil, err
	}
	r := &costReport{Rows: rows, Meters: meters}
	reads := []struct {
		name string
		args []string
	}{{readFirst, nil}, {readFull, nil}, {readWalk, []string{"--walk"}}}
	if meters != usualMeters {
		reads = reads[:2]
	}
	for _, way := range reads {
		if way.name == readFull {
			if err := m.db.vacuum(ctx); err != nil {
				return nil, err
			}
		}
		taken, err := s.full(ctx, m, way.args...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		reply, err := p.do(ctx, "cost")
		if err != nil {
			return nil, err
		}
		r.Reads = append(r.Reads, read{way.name, taken.method, reply.Cost, taken.peak, total(taken.versions)})
		b.say("%s customer meters, %d of a customer: %s: %s requests", count(rows), meters, way.name, count(int(reply.Cost.Requests)))
	}
	if meters == usualMeters {
		r.Reads = append(r.Reads, read{Name: readSDK, Cost: sdkLoop(rows)})
	}
	return r, m.db.drop(ctx)
}

// criteria of a report with the usual meters; of others the numbers are only shown.
func (r *costReport) criteria() []criterion {
	if r.Meters != usualMeters {
		return nil
	}
	var all []criterion
	for _, read := range r.Reads {
		name, c := "cost, "+read.Name+": ", read.Cost
		switch read.Name {
		case readFirst:
			all = append(all, atMost(name+"requests", float64(c.Requests), firstRequests(r.Rows)))
		case readFull:
			all = append(all,
				atMost(name+"requests", float64(c.Requests), fullRequests(r.Rows)),
				atMost(name+"time, all statements in turn / that the limit dictates", float64(c.inTurn())/float64(time.Duration(c.Requests)*dictated), 1.03),
				atMost(name+"new row versions", float64(read.NewVersions), 0),
				below(name+"peak memory, MiB", mib(read.PeakBytes), 64))
		}
		// Of few rows, the page of the rank check is more than a hundredth.
		share := map[string]float64{readFirst: 0.06, readFull: 0.01}[read.Name]
		if share > 0 && r.Rows >= 100_000 {
			all = append(all, atMost(name+"skipped rows / of a walk from one end", float64(c.SkippedRows)/skippedFromOneEnd(r.Rows), share))
		}
	}
	for i := range all {
		all[i].Rows = r.Rows
	}
	return all
}

// skippedFromOneEnd is how many rows OFFSET skips for overlapping pages of a whole
// list that are all counted from its one end.
func skippedFromOneEnd(rows int) float64 {
	n := float64(rows) / 100_000
	return 57e6 * n * n
}

// firstRequests and fullRequests are the most requests that a first load and a full
// run of a swept organization may take.
func firstRequests(rows int) float64 { return 1.40*float64(rows)/pageSize + 30 }
func fullRequests(rows int) float64  { return 1.09*float64(rows)/pageSize + 16 }

// cells are a line for each way.
func (r *costReport) cells() [][]string {
	var lines [][]string
	for i, read := range r.Reads {
		c := read.Cost
		line := []string{"", "", read.Name, count(int(c.Requests)), fmt.Sprintf("%.2f", float64(c.Requests)*pageSize/float64(r.Rows)),
			count(int(c.SkippedRows)), fmt.Sprintf("%.1f s", c.Statements.Seconds()), c.Takes.Round(time.Second).String(), "", ""}
		if i == 0 {
			line[0], line[1] = count(r.Rows), count(r.Meters)
		}
		if read.PeakBytes > 0 {
			line[8], line[9] = fmt.Sprintf("%.1f", mib(read.PeakBytes)), count(int(read.NewVersions))
		}
		lines = append(lines, line)
	}
	return lines
}
