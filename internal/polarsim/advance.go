package polarsim

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

const (
	smallestBatch = 20                     // rows used in a step, if there are so many
	largestBatch  = 400                    // likewise, at most
	stepSpread    = 900 * time.Millisecond // before a step's time, over which its changes happened
)

// Advance lets one step of a living seller's day happen as at a time: usage on
// up to a few hundred rows an organization, a few new rows, seldom a renamed or
// deleted customer or a row that is gone. Meters stay as they are. It is one atomic
// change. What happens depends on the seed, the number of steps before, the time, and
// the data alone, so that the same times lead to the same data again.
func (s *Server) Advance(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	at = precise(at)
	usual := s.chance
	defer func() { s.chance = usual }()
	s.chance = newRand(s.options.Seed+s.steps, uint64(at.UnixMicro()))
	for _, o := range s.organizations {
		s.advance(o, at)
	}
}

func (s *Server) advance(o *organization, at time.Time) {
	chance := s.chance
	for range min(largestBatch, smallestBatch+chance.IntN(1+len(o.customers)/20), 2*len(o.customers)) {
		if r := someRow(o, chance); r != nil {
			s.use(r, at.Add(-someTime(chance, stepSpread)), chance)
		}
	}
	for range chance.IntN(4) {
		created, c := at.Add(-someTime(chance, stepSpread)), (*customer)(nil)
		if r := someRow(o, chance); r != nil && chance.IntN(2) == 0 && s.freeMeter(r.customer) != nil {
			c = r.customer
		}
		s.add(o, c, nil, created, Units{})
	}
	r := someRow(o, chance)
	if r == nil {
		return
	}
	oneIn := func(n int) bool { return chance.IntN(n) == 0 }
	if oneIn(8) {
		name := personName(chance)
		s.editCustomer(r.customer, at, func(c *Customer) { c.Name = &name })
	}
	if oneIn(25) {
		s.editCustomer(r.customer, at, deleteCustomer)
	}
	if len(o.customers) > 50 && oneIn(40) {
		s.remove(r)
	}
}

// someRow picks from a small part of the customers mostly, so that some are heavy
// users; nil if the one it comes to has no rows.
func someRow(o *organization, chance *rand.Rand) *row {
	if len(o.customers) == 0 {
		return nil
	}
	c := o.customers[chance.IntN(len(o.customers))>>chance.IntN(6)]
	if len(c.rows) == 0 {
		return nil
	}
	return pick(chance, c.rows)
}

// use consumes a little compared with what the meter's rows hold, mostly.
func (s *Server) use(r *row, at time.Time, chance *rand.Rand) {
	kind := &r.meter.kind
	switch n := chance.IntN(100); {
	case n < 2:
		s.set(r, Units{Consumed: "0"}, later(at, r))
	case n < 6: // credits stop at the largest 64-bit integer, as the column does
		bought := max(1, kind.credit) * int64(1+chance.IntN(5))
		credited, _ := strconv.ParseInt(r.units.Credited, 10, 64) // 0 if a test has put in what is no integer
		s.set(r, Units{Credited: strconv.FormatInt(credited+min(bought, math.MaxInt64-credited), 10)}, later(at, r))
	default:
		s.consume(r, kind.number(kind.some(max(3, kind.bits/2), chance)), at)
	}
}
