package polarsim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// This file holds changes that a mirror overlooks if it asks only for the
// customers and meters that it knows, and for what is new. Late commits of new
// rows are in [NewCustomerMeter], archiving is in [Server.ArchiveMeter].

// AddOldCustomer adds a customer who was there since createdAt, with so many
// rows of that time: on meters in use first, on new ones if those run out.
func (s *Server) AddOldCustomer(organizationID uuid.UUID, createdAt time.Time, rows int) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return nil, fmt.Errorf("add old customer: organization %s: %w", organizationID, ErrUnknown)
	}
	return snapshotsOf(s.addOldCustomer(o, micros(createdAt), rows, s.chance)), nil
}

func (s *Server) addOldCustomer(o *organization, at int64, n int, chance *rand.Rand) []*row {
	c := s.addCustomer(o, at, chance)
	var rows []*row
	for range n {
		m := freeMeter(o, c, chance)
		if m == nil {
			m = s.addMeter(o, nextKind(o), at, chance)
		}
		rows = append(rows, s.attachNew(c, m, at, chance))
	}
	return rows
}

// AddOldMeter adds a meter that was there since createdAt, with a row of that
// time for so many of the customers that are there (or all, if they are fewer)
// and for so many new ones.
func (s *Server) AddOldMeter(organizationID uuid.UUID, name string, createdAt time.Time, present, unknown int) (Meter, []Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return Meter{}, nil, fmt.Errorf("add old meter: organization %s: %w", organizationID, ErrUnknown)
	}
	kind := nextKind(o)
	kind.name = name
	m, rows := s.addOldMeter(o, kind, micros(createdAt), present, unknown, s.chance)
	return m.doc, snapshotsOf(rows), nil
}

func (s *Server) addOldMeter(o *organization, kind *meterKind, at int64, present, unknown int, chance *rand.Rand) (*meter, []*row) {
	m := s.addMeter(o, kind, at, chance)
	var rows []*row
	for _, i := range chance.Perm(len(o.customers))[:min(present, len(o.customers))] {
		rows = append(rows, s.attachNew(o.customers[i], m, at, chance))
	}
	for range unknown {
		rows = append(rows, s.attachNew(s.addCustomer(o, at, chance), m, at, chance))
	}
	return m, rows
}

// ReturnMeter unarchives a meter after something was consumed at a time in its
// absence on so many of its rows (or all, if they are fewer), and returns those.
// Their modified_at is that time, or just after their last change. To have it
// archived since long ago, set ArchivedAt with [Server.EditMeter].
func (s *Server) ReturnMeter(id uuid.UUID, changes int, at time.Time) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meters[id]
	if m == nil {
		return nil, fmt.Errorf("return meter %s: %w", id, ErrUnknown)
	}
	rows, err := s.returnMeter(m, changes, micros(at), s.now())
	if err != nil {
		return nil, fmt.Errorf("return meter %s: %w", id, err)
	}
	return snapshotsOf(rows), nil
}

func (s *Server) returnMeter(m *meter, changes int, at, now int64) ([]*row, error) {
	rows := m.rows[:min(changes, len(m.rows))]
	for _, r := range rows {
		if err := s.consume(r, "1", later(at, r)); err != nil {
			return nil, fmt.Errorf("customer meter %s: %w", r.id, err)
		}
	}
	s.changeMeter(m, timeOf(now), unarchive)
	return rows, nil
}

// FlapMeter archives a meter, or unarchives it if it is archived, and reports
// which of the two.
func (s *Server) FlapMeter(id uuid.UUID) (archived bool, err error) {
	_, err = s.editMeter("flap", id, func(m *Meter, at time.Time) {
		flap(m, at)
		archived = !m.ArchivedAt.IsZero()
	})
	return archived, err
}

func flap(m *Meter, at time.Time) {
	if m.ArchivedAt.IsZero() {
		archive(m, at)
	} else {
		unarchive(m, at)
	}
}

// ConsumeLate is [Server.Consume] by a transaction that began at a time in the
// past and commits only now: modified_at is that time, or just after the row's
// last change.
func (s *Server) ConsumeLate(id uuid.UUID, amount string, at time.Time) (Row, error) {
	return s.change(id, func(r *row) error { return s.consume(r, amount, later(micros(at), r)) })
}

// SetUnlisted hides a row from every list, whatever its filter, or lists it
// again. The get call shows it all the time.
func (s *Server) SetUnlisted(id uuid.UUID, unlisted bool) (Row, error) {
	return s.change(id, func(r *row) error {
		s.setUnlisted(r, unlisted)
		return nil
	})
}

func (s *Server) setUnlisted(r *row, unlisted bool) {
	s.edit([]*row{r}, func() { r.oddity().hidden = unlisted })
}

// unseen are the mutations that [Options].Unseen adds to the others.
func unseen() []mutation {
	return []mutation{
		{"add old customer", 4, func(s *Server, o *organization, chance *rand.Rand, now int64) Change {
			return added(s.addOldCustomer(o, now-someAge(chance, 400*24*time.Hour), 1+chance.IntN(4), chance))
		}},
		{"add old meter", 2, addSomeOldMeter},
		{"return meter", 4, returnSomeMeter},
		{"flap meter", 6, flapFirstMeter},
		{"use late", 4, onRow(func(s *Server, r *row, chance *rand.Rand, at int64) bool {
			return useRow(s, r, chance, later(at-someAge(chance, 12*time.Hour), r))
		})},
		{"add hours late", 4, func(s *Server, o *organization, chance *rand.Rand, now int64) Change {
			return s.addSome(o, chance, now-someAge(chance, 12*time.Hour))
		}},
		{"unlist", 4, onRow(func(s *Server, r *row, _ *rand.Rand, _ int64) bool {
			listed := !r.unlisted()
			s.setUnlisted(r, true)
			return listed
		})},
		{"list again", 4, listAgain},
	}
}

// someAge is an hour at least: more than any overlap.
func someAge(chance *rand.Rand, most time.Duration) int64 {
	return time.Hour.Microseconds() + chance.Int64N((most - time.Hour).Microseconds())
}

func added(rows []*row) Change {
	var c Change
	for _, r := range rows {
		c.CustomerMeters = append(c.CustomerMeters, r.id)
	}
	return c
}

// addSomeOldMeter keeps the meters few.
func addSomeOldMeter(s *Server, o *organization, chance *rand.Rand, now int64) Change {
	if len(o.meters) >= 12 {
		return Change{Kind: "nothing"}
	}
	m, rows := s.addOldMeter(o, nextKind(o), now-someAge(chance, 400*24*time.Hour), chance.IntN(4), 1+chance.IntN(3), chance)
	c := added(rows)
	c.MeterID = m.id
	return c
}

func returnSomeMeter(s *Server, o *organization, chance *rand.Rand, now int64) Change {
	m := someMeter(o, true, chance)
	if m == nil {
		return Change{Kind: "nothing"}
	}
	// Numbers that can't be calculated with stay; the rows before them changed.
	if _, err := s.returnMeter(m, chance.IntN(4), now-someAge(chance, 12*time.Hour), now); err != nil {
		s.changeMeter(m, timeOf(now), unarchive)
	}
	return Change{MeterID: m.id}
}

// flapFirstMeter is about one meter, so that it goes and comes again and again.
func flapFirstMeter(s *Server, o *organization, _ *rand.Rand, now int64) Change {
	if len(o.meters) == 0 {
		return Change{Kind: "nothing"}
	}
	s.changeMeter(o.meters[0], timeOf(now), flap)
	return Change{MeterID: o.meters[0].id}
}

func listAgain(s *Server, o *organization, _ *rand.Rand, _ int64) Change {
	for _, r := range o.rows {
		if r.unlisted() {
			s.setUnlisted(r, false)
			return Change{CustomerMeterID: r.id, CustomerMeters: []uuid.UUID{r.id}}
		}
	}
	return Change{Kind: "nothing"}
}
