package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

// The orders that the shelf has at hand: those of syncd's full run and tick.
const (
	oldestFirst  = "created_at,customer_id,meter_id"
	newestFirst  = "-created_at,-customer_id,-meter_id"
	addedOrder   = "-created_at,customer_id,meter_id"
	changedOrder = "-modified_at,customer_id,meter_id"
)

// A shelf holds the customer meters of a simulated organization as the bytes
// that go over the wire, so that a page costs little more than copying it. What
// it serves is what the simulation would, byte by byte.
type shelf struct {
	sim *polarsim.Server
	org polarsim.Organization

	ofCustomer, ofMeter map[uuid.UUID][]uint32 // indexes of their rows, oldest first

	mu      sync.RWMutex        // guards what follows
	rows    []polarsim.Rendered // oldest first
	added   []uint32            // indexes of rows in the order addedOrder
	changed []uint32            // likewise, in the order changedOrder
}

// A selection is what a request for a page asks for.
type selection struct {
	ids         []uuid.UUID            // known ones; none: all rows
	of          map[uuid.UUID][]uint32 // whose they are
	order       string
	page, limit int
}

// newShelf renders every row of the simulation's only organization once.
func newShelf(sim *polarsim.Server) *shelf {
	org := sim.Organizations()[0]
	s := &shelf{sim: sim, org: org, rows: make([]polarsim.Rendered, 0, sim.Count(org.ID))}
	for r := range sim.Rendered(org.ID) {
		s.rows = append(s.rows, r)
	}
	s.ofCustomer, s.ofMeter = make(map[uuid.UUID][]uint32), make(map[uuid.UUID][]uint32)
	for i, r := range s.rows {
		s.ofCustomer[r.CustomerID] = append(s.ofCustomer[r.CustomerID], uint32(i))
		s.ofMeter[r.MeterID] = append(s.ofMeter[r.MeterID], uint32(i))
	}
	s.added, s.changed = identity(len(s.rows)), identity(len(s.rows))
	slices.SortFunc(s.added, func(a, b uint32) int {
		// Of one moment, rows come as they do in the walk.
		return cmp.Or(s.rows[b].CreatedAt.Compare(s.rows[a].CreatedAt), cmp.Compare(a, b))
	})
	s.sortChanged()
	return s
}

func identity(n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

// sortChanged sorts by modified_at, newest first and nulls before them, as
// Postgres does.
func (s *shelf) sortChanged() {
	slices.SortFunc(s.changed, func(i, j uint32) int {
		a, b := &s.rows[i], &s.rows[j]
		never, neverToo := a.ModifiedAt.IsZero(), b.ModifiedAt.IsZero()
		switch {
		case never && !neverToo:
			return -1
		case neverToo && !never:
			return 1
		}
		return cmp.Or(b.ModifiedAt.Compare(a.ModifiedAt),
			bytes.Compare(a.CustomerID[:], b.CustomerID[:]), bytes.Compare(a.MeterID[:], b.MeterID[:]))
	})
}

// measure returns how many rows were never modified, and the bytes of all.
func (s *shelf) measure() (never int, size int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.rows {
		size += int64(s.rows[i].Size())
		if s.rows[i].ModifiedAt.IsZero() {
			never++
		}
	}
	return never, size
}

// appendPage writes the answer of the list call. It reports false if it does not
// know the order.
func (s *shelf) appendPage(b []byte, sel selection) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var index []uint32 // nil: as they stand
	count, page, limit := len(s.rows), sel.page, sel.limit
	switch {
	case sel.order == oldestFirst || sel.order == newestFirst:
		if len(sel.ids) > 0 {
			index = sel.indexes()
			count = len(index)
		}
	case len(sel.ids) > 0:
		return b, false
	case sel.order == addedOrder:
		index = s.added
	case sel.order == changedOrder:
		index = s.changed
	default:
		return b, false
	}
	from := count
	if page-1 <= count/limit {
		from = min(count, (page-1)*limit)
	}
	b = append(b, `{"items":[`...)
	for i := from; i < min(count, from+limit); i++ {
		if i > from {
			b = append(b, ',')
		}
		at := i
		if sel.order == newestFirst {
			at = count - 1 - i
		}
		if index != nil {
			at = int(index[at])
		}
		b = s.rows[at].AppendTo(b)
	}
	b = append(b, `],"pagination":{"total_count":`...)
	b = strconv.AppendInt(b, int64(count), 10)
	b = append(b, `,"max_page":`...)
	b = strconv.AppendInt(b, int64((count+limit-1)/limit), 10)
	return append(b, "}}"...), true
}

// indexes are those of the rows of the selection's ids, oldest first.
func (s *selection) indexes() []uint32 {
	if len(s.ids) == 1 {
		return s.of[s.ids[0]]
	}
	var index []uint32
	for _, id := range s.ids {
		index = append(index, s.of[id]...)
	}
	slices.Sort(index)
	return slices.Compact(index) // an id may be named twice
}

// change lets n rows, picked at random, be used: their units and modified_at
// move, as one step for whoever reads.
func (s *shelf) change(n int, chance *rand.Rand) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	picked := identity(len(s.rows))
	n = min(n, len(picked))
	for i := range n {
		j := i + chance.IntN(len(picked)-i)
		picked[i], picked[j] = picked[j], picked[i]
	}
	for _, i := range picked[:n] {
		row := &s.rows[i]
		if _, err := s.sim.Consume(row.ID, fmt.Sprintf("%d.%02d", 1+chance.IntN(1000), chance.IntN(100))); err != nil {
			return fmt.Errorf("change a row of the simulated Polar: %w", err)
		}
		*row, _ = s.sim.FindRendered(row.ID) // nothing removes rows here
	}
	s.sortChanged()
	return nil
}

// usualMeters is how many meters the organizations have, and so how many customer
// meters a customer: once Polar has computed a customer, there is one of each meter.
const usualMeters = 4

// simulated is the organization that is measured, six in ten of whose customer
// meters were never used. Nothing changed in the last day, so that an idle tick
// finds nothing new.
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
