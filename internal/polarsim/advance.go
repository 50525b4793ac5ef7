package polarsim

import (
	"math/rand/v2"
	"time"
)

// Changes counts what a step of [Server.Advance] did.
type Changes struct {
	Used, Reset, Credited, Added       int // customer meters
	Deleted                            int // customer meters, for good
	CustomersRenamed, CustomersDeleted int
	MetersRenamed, MetersArchived      int
	MetersReturned                     int // from the archive
}

const (
	smallestBatch = 20                     // rows used in a step, if there are so many
	largestUse    = 400                    // likewise, at most
	stepSpread    = 900 * time.Millisecond // before a step's time, over which its changes happened
)

// Advance lets one step of a living seller's day happen as at a time: usage on
// up to a few hundred rows an organization, a few new customers, seldom
// something more. It is one atomic change. What happens depends on the seed,
// the number of steps before, the time, and the data alone, so that the same
// times lead to the same data again.
func (s *Server) Advance(at time.Time) Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	now := micros(at)
	chance := newRand(s.options.Seed^mix(s.steps), uint64(now))
	var done Changes
	for _, o := range s.organizations {
		s.advance(o, chance, now, &done)
	}
	return done
}

func (s *Server) advance(o *organization, chance *rand.Rand, now int64, done *Changes) {
	if len(o.rows) > 0 {
		for range min(largestUse, smallestBatch+chance.IntN(1+len(o.rows)/60), len(o.rows)) {
			s.useOne(o, chance, now, done)
		}
	}
	for range chance.IntN(4) {
		s.addSome(o, chance, now-chance.Int64N(stepSpread.Microseconds()))
		done.Added++
	}
	for _, e := range seldom() {
		if chance.IntN(e.oneIn) == 0 && e.allowed(o) {
			if c := s.mutate(mutation{apply: e.apply}, o, chance, now); c.Kind != "nothing" {
				*e.count(done)++
			}
		}
	}
}

// useOne picks from a small part of the rows mostly, so that some customers are
// heavy users.
func (s *Server) useOne(o *organization, chance *rand.Rand, now int64, done *Changes) {
	r := o.rows[chance.IntN(len(o.rows))>>chance.IntN(6)]
	at := later(now-chance.Int64N(stepSpread.Microseconds()), r)
	switch n := chance.IntN(100); {
	case n < 2:
		if s.reset(r, at) == nil {
			done.Reset++
		}
	case n < 6:
		if creditRow(s, r, chance, at) {
			done.Credited++
		}
	default:
		if useRow(s, r, chance, at) {
			done.Used++
		}
	}
}

// An event happens in one step of so many.
type event struct {
	oneIn   int
	apply   func(*Server, *organization, *rand.Rand, int64) Change
	allowed func(*organization) bool
	count   func(*Changes) *int
}

func seldom() []event {
	always := func(*organization) bool { return true }
	return []event{
		{8, onCustomer(renameCustomer), always, func(c *Changes) *int { return &c.CustomersRenamed }},
		{25, onCustomer(removeCustomer), always,
			func(c *Changes) *int { return &c.CustomersDeleted }},
		{40, onRow(func(s *Server, r *row, _ *rand.Rand, _ int64) bool { s.remove(r); return true }),
			func(o *organization) bool { return len(o.rows) > 100 }, func(c *Changes) *int { return &c.Deleted }},
		{60, onMeter(false, renameMeter), always, func(c *Changes) *int { return &c.MetersRenamed }},
		{80, onMeter(false, archive), func(o *organization) bool { return archivedMeters(o) == 0 && len(o.meters) > 3 },
			func(c *Changes) *int { return &c.MetersArchived }},
		{12, onMeter(true, unarchive), always, func(c *Changes) *int { return &c.MetersReturned }},
	}
}

func archivedMeters(o *organization) int {
	n := 0
	for _, m := range o.meters {
		if m.archived() {
			n++
		}
	}
	return n
}
