package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

const (
	listPath    = "/v1/customer-meters/"
	pageSize    = 100
	connections = 8 // requests that syncd and the plain download have in flight
	polarLimit  = 500
	dictated    = time.Minute / polarLimit // from one request to the next

	oldestFirst = "created_at,customer_id,meter_id"
	newestFirst = "-created_at,-customer_id,-meter_id"

	versionHeader = "Polar-Version"
	version       = "2026-10"

	// usualMeters is how many meters the organization has, and so how many
	// customer meters a customer: once Polar has computed a customer, there is
	// one of each meter.
	usualMeters = 4
)

// A cost is what requests cost Polar, by the simulation's cost model.
type cost struct {
	requests    int64
	skippedRows int64         // by OFFSET
	statements  time.Duration // simulated

	// takes is how long the requests take. It is computed instead of waited for:
	// each takes what the limit dictates for one or, if that is longer, its
	// statements' time divided by the requests in flight. The network's and the
	// reader's own time are left out.
	takes time.Duration
}

// polar is a simulated Polar with one organization. It answers the pages that
// are measured with text that was rendered beforehand, so that a page takes
// little more than copying it, and adds up what requests cost.
type polar struct {
	org polarsim.Organization
	sim *polarsim.Server // answers all other requests

	rows                []row            // as listed, oldest first
	ofCustomer, ofMeter map[string][]int // their rows

	mu       sync.Mutex
	inFlight int // requests of whoever reads now
	cost     cost

	buffers sync.Pool // of *[]byte: what serving costs would count against whoever is served
}

type row struct {
	id   uuid.UUID
	json string
}

// newPolar makes the organization that is measured, six in ten of whose customer
// meters were never used.
func newPolar(rows, meters int) *polar {
	p := &polar{sim: simulated(rows, meters, polarsim.Options{}), ofCustomer: map[string][]int{}, ofMeter: map[string][]int{}}
	p.org = p.sim.Organizations()[0]
	for r := range p.sim.All(p.org.ID) {
		if r.Archived || r.Unlisted {
			continue
		}
		customer, meter := r.CustomerID.String(), r.MeterID.String()
		p.ofCustomer[customer] = append(p.ofCustomer[customer], len(p.rows))
		p.ofMeter[meter] = append(p.ofMeter[meter], len(p.rows))
		p.rows = append(p.rows, row{r.ID, r.JSON})
	}
	debug.FreeOSMemory() // here, and not while something is measured
	return p
}

func simulated(rows, meters int, more polarsim.Options) *polarsim.Server {
	more.Seed = 4
	more.Epoch = time.Now().Add(-24 * time.Hour).Truncate(time.Hour)
	more.Organizations = []polarsim.Organization{{
		Name:           "bench",
		CustomerMeters: rows,
		Meters:         meters,
		EveryMeter:     true,
		NeverModified:  0.6,
	}}
	return polarsim.New(more)
}

// begin counts costs from zero, for a reader with so many requests in flight.
func (p *polar) begin(inFlight int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight, p.cost = inFlight, cost{}
}

// costs is what requests have cost since begin.
func (p *polar) costs() cost {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cost
}

// charge adds a request. The mutex must be held.
func (p *polar) charge(skipped int64, statements time.Duration) {
	p.cost.requests++
	p.cost.skippedRows += skipped
	p.cost.statements += statements
	p.cost.takes += max(dictated, statements/time.Duration(p.inFlight))
}

// change lets n rows, picked at random, be used: their units and modified_at move.
func (p *polar) change(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range rand.Perm(len(p.rows))[:n] {
		changed, err := p.sim.Consume(p.rows[i].id, "12.34")
		if err != nil {
			return fmt.Errorf("change a row of the simulated Polar: %w", err)
		}
		p.rows[i].json = changed.JSON
	}
	return nil
}

// A page is part of a list.
type page struct {
	index         []int // of the list's rows; nil: all rows
	count         int   // rows of the list
	offset, limit int
	newestFirst   bool
}

// ServeHTTP answers one request.
func (p *polar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wanted, ok := p.parse(r)
	if !ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		before := p.sim.Cost()
		p.sim.ServeHTTP(w, r)
		after := p.sim.Cost()
		p.charge(after.SkippedRows-before.SkippedRows, after.Statements-before.Statements)
		return
	}
	p.mu.Lock()
	p.charge(int64(wanted.offset), polarsim.ListCost+
		time.Duration(wanted.offset)*polarsim.SkippedRowCost+time.Duration(wanted.count)*polarsim.CountedRowCost)
	p.mu.Unlock()
	buffer, _ := p.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	defer p.buffers.Put(buffer)
	*buffer = p.appendPage((*buffer)[:0], wanted)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(*buffer)))
	w.Header().Set(versionHeader, version)
	w.Write(*buffer) // an error means that the client left
}

// parse reads a request for a page of everything, of customers or of meters in the
// order of a walk, and reports false for any other.
func (p *polar) parse(r *http.Request) (_ page, ok bool) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	asked := r.Header.Get(versionHeader)
	if err != nil || r.Method != http.MethodGet || r.URL.Path != listPath || asked != "" && asked != version ||
		r.Header.Get("Authorization") != "Bearer "+p.org.Token {
		return page{}, false
	}
	wanted := page{count: len(p.rows)}
	order := strings.Join(query["sorting"], ",")
	number, err1 := strconv.Atoi(query.Get("page"))
	limit, err2 := strconv.Atoi(query.Get("limit"))
	known := query.Get("organization_id") == p.org.ID.String() && (order == oldestFirst || order == newestFirst) &&
		err1 == nil && number >= 1 && number <= len(p.rows) && err2 == nil && limit >= 1 && limit <= pageSize
	for name, values := range query {
		var of map[string][]int
		switch name {
		case "organization_id", "page", "limit":
			known = known && len(values) == 1
			continue
		case "sorting":
			continue
		case "customer_id":
			of = p.ofCustomer
		case "meter_id":
			of = p.ofMeter
		}
		if of == nil || wanted.index != nil {
			return page{}, false
		}
		for i, id := range values {
			switch rows := of[id]; {
			case rows == nil || slices.Contains(values[:i], id):
				return page{}, false
			case i == 0:
				wanted.index = rows // not copied: a meter has many
			default:
				wanted.index = append(slices.Clip(wanted.index), rows...)
			}
		}
		if len(values) > 1 {
			slices.Sort(wanted.index)
		}
		wanted.count = len(wanted.index)
	}
	wanted.offset, wanted.limit, wanted.newestFirst = min((number-1)*limit, wanted.count), limit, order == newestFirst
	return wanted, known
}

func (p *polar) appendPage(b []byte, wanted page) []byte {
	b = append(b, `{"items":[`...)
	for i := wanted.offset; i < min(wanted.offset+wanted.limit, wanted.count); i++ {
		if i > wanted.offset {
			b = append(b, ',')
		}
		at := i
		if wanted.newestFirst {
			at = wanted.count - 1 - i
		}
		if wanted.index != nil {
			at = wanted.index[at]
		}
		b = append(b, p.rows[at].json...)
	}
	return fmt.Appendf(b, `],"pagination":{"total_count":%d,"max_page":%d}}`, wanted.count, (wanted.count+wanted.limit-1)/wanted.limit)
}
