package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

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

	// usualMeters is how many meters the organization has, and so how many
	// customer meters a customer: once Polar has computed a customer, there is
	// one of each meter.
	usualMeters = 4
)

// A cost is what requests cost Polar, by the simulation's cost model.
type cost struct {
	requests    int
	skippedRows int64         // by OFFSET
	statements  time.Duration // simulated

	// takes is how long the requests take. It is computed instead of waited for:
	// each takes what the limit dictates for one or, if that is longer, its
	// statements' time divided by the requests in flight. The network's and the
	// reader's own time are left out.
	takes time.Duration
}

// costOf adds up requests of a reader with so many in flight.
func costOf(requests []polarsim.Request, inFlight int) cost {
	c := cost{requests: len(requests)}
	for _, r := range requests {
		c.skippedRows += r.Cost.SkippedRows
		c.statements += r.Cost.Statements
		c.takes += max(dictated, r.Cost.Statements/time.Duration(inFlight))
	}
	return c
}

// polar is a simulated Polar with one organization.
type polar struct {
	*polarsim.Server
	org          polarsim.Organization
	rows, meters int
}

// newPolar makes an organization, six in ten of whose customer meters were never
// used.
func newPolar(rows, meters int, more polarsim.Options) *polar {
	more.Seed = 4
	more.Epoch = time.Now().Add(-24 * time.Hour).Truncate(time.Hour)
	more.Organizations = []polarsim.Organization{{
		Name:           "bench",
		CustomerMeters: rows,
		Meters:         meters,
		EveryMeter:     true,
		NeverModified:  0.6,
	}}
	sim := polarsim.New(more)
	return &polar{sim, sim.Organizations()[0], rows, meters}
}

// prepare has everything rendered and sorted: whoever came first would have to wait
// for it.
func (p *polar) prepare(ctx context.Context) error {
	p.Snapshot(p.org.ID)
	filters := []url.Values{{}}
	for _, meter := range p.Meters(p.org.ID) {
		filters = append(filters, url.Values{"meter_id": {meter.ID.String()}})
	}
	for _, query := range filters {
		query.Set("organization_id", p.org.ID.String())
		for _, order := range []string{oldestFirst, newestFirst} {
			query["sorting"] = strings.Split(order, ",")
			page, err := getPage(ctx, &http.Client{Transport: p.Transport()}, "http://polar", p.org.Token, query)
			if err != nil {
				return err
			}
			page.Close()
		}
	}
	debug.FreeOSMemory() // here, and not while something is measured
	return nil
}

// change lets n rows, picked at random, be used: their units and modified_at move.
func (p *polar) change(ctx context.Context, n int) error {
	rows := p.Snapshot(p.org.ID)
	for _, i := range rand.Perm(len(rows))[:n] {
		if _, err := p.Consume(rows[i].ID, "12.34"); err != nil {
			return fmt.Errorf("change a row of the simulated Polar: %w", err)
		}
	}
	return p.prepare(ctx)
}
