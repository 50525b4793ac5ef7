package polarsim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A Change is what one call of [Server.Mutate] did.
type Change struct {
	Kind            string // such as "use" or "archive meter"; "nothing" if there was nothing to do it to
	OrganizationID  uuid.UUID
	CustomerMeterID uuid.UUID   // zero if it was about a customer or a meter
	CustomerMeters  []uuid.UUID // all rows touched, except by changes to a meter
	MeterID         uuid.UUID   // of changes to a meter
}

// A mutation does one kind of change to an organization, as chance has it.
type mutation struct {
	kind   string
	weight int
	apply  func(s *Server, o *organization, chance *rand.Rand, at int64) Change
}

// mutations are all that can happen to data at Polar, in the proportions of a
// rough day: rare events are frequent enough for short tests.
func mutations() []mutation {
	return []mutation{
		{"use", 30, onRow(useRow)},
		{"reset", 4, onRow(func(s *Server, r *row, _ *rand.Rand, at int64) bool { return s.reset(r, at) == nil })},
		{"credit", 4, onRow(creditRow)},
		{"restore older", 2, onRow(restoreRow)},
		{"delete customer meter", 6, onRow(func(s *Server, r *row, _ *rand.Rand, _ int64) bool { s.remove(r); return true })},
		{"add", 10, addRow},
		{"late commit", 6, addLateRow},
		{"rename customer", 4, onCustomer(renameCustomer)},
		{"delete customer", 2, onCustomer(removeCustomer)},
		{"rename meter", 2, onMeter(false, renameMeter)},
		{"archive meter", 2, onMeter(false, archive)},
		{"unarchive meter", 3, onMeter(true, unarchive)},
	}
}

// Mutate makes one change that chance picks, as one step, and says which.
func (s *Server) Mutate(chance *rand.Rand) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.organizations) == 0 {
		return Change{Kind: "nothing"}
	}
	o := pick(chance, s.organizations)
	all := mutations()
	if s.options.Unseen {
		all = append(all, unseen()...)
	}
	weights := 0
	for _, m := range all {
		weights += m.weight
	}
	at := chance.IntN(weights)
	for _, m := range all {
		if at -= m.weight; at < 0 {
			return s.mutate(m, o, chance, s.now())
		}
	}
	return Change{Kind: "nothing"} // not reached: the weights add up
}

func (s *Server) mutate(m mutation, o *organization, chance *rand.Rand, now int64) Change {
	c := m.apply(s, o, chance, now)
	if c.Kind == "" {
		c.Kind = m.kind
	}
	c.OrganizationID = o.ID
	return c
}

// onRow changes a row at a time after its last change.
func onRow(f func(s *Server, r *row, chance *rand.Rand, at int64) bool) func(*Server, *organization, *rand.Rand, int64) Change {
	return func(s *Server, o *organization, chance *rand.Rand, now int64) Change {
		if len(o.rows) == 0 {
			return Change{Kind: "nothing"}
		}
		r := pick(chance, o.rows)
		if !f(s, r, chance, later(now, r)) {
			return Change{Kind: "nothing"}
		}
		return Change{CustomerMeterID: r.id, CustomerMeters: []uuid.UUID{r.id}}
	}
}

func onCustomer(f func(c *Customer, chance *rand.Rand)) func(*Server, *organization, *rand.Rand, int64) Change {
	return func(s *Server, o *organization, chance *rand.Rand, now int64) Change {
		if len(o.customers) == 0 {
			return Change{Kind: "nothing"}
		}
		c := pick(chance, o.customers)
		return Change{CustomerMeters: s.changeCustomer(c, timeOf(now), func(c *Customer) { f(c, chance) })}
	}
}

// onMeter changes one of the meters that are archived, or of those that are not.
func onMeter(archived bool, f func(m *Meter, at time.Time)) func(*Server, *organization, *rand.Rand, int64) Change {
	return func(s *Server, o *organization, chance *rand.Rand, now int64) Change {
		m := someMeter(o, archived, chance)
		if m == nil {
			return Change{Kind: "nothing"}
		}
		s.changeMeter(m, timeOf(now), f)
		return Change{MeterID: m.id}
	}
}

// someMeter picks one, or nil if there is none.
func someMeter(o *organization, archived bool, chance *rand.Rand) *meter {
	var candidates []*meter
	for _, m := range o.meters {
		if m.archived() == archived {
			candidates = append(candidates, m)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return pick(chance, candidates)
}

// useRow consumes a little compared with what its meter's rows hold.
func useRow(s *Server, r *row, chance *rand.Rand, at int64) bool {
	kind := *r.meter.kind
	kind.bits = max(3, kind.bits/2)
	return s.consume(r, someUnits(&kind, chance), at) == nil
}

func creditRow(s *Server, r *row, chance *rand.Rand, at int64) bool {
	return s.credit(r, max(1, r.meter.kind.credit)*int64(1+chance.IntN(5)), at) == nil
}

func restoreRow(s *Server, r *row, _ *rand.Rand, _ int64) bool {
	if r.odd == nil || r.odd.older == nil {
		return false
	}
	s.restore(r)
	return true
}

func addRow(s *Server, o *organization, chance *rand.Rand, now int64) Change {
	return s.addSome(o, chance, now)
}

// addLateRow adds what a slow transaction began up to a minute ago.
func addLateRow(s *Server, o *organization, chance *rand.Rand, now int64) Change {
	return s.addSome(o, chance, now-chance.Int64N(time.Minute.Microseconds()))
}

// addSome adds a row for a customer that is there, if it lacks a meter, or for
// a new one.
func (s *Server) addSome(o *organization, chance *rand.Rand, at int64) Change {
	var c *customer
	if len(o.customers) > 0 && chance.IntN(2) == 0 {
		c = pick(chance, o.customers)
	}
	if c == nil || freeMeter(o, c, chance) == nil {
		c = s.addCustomer(o, at, chance)
	}
	m := freeMeter(o, c, chance)
	if m == nil { // every meter is archived
		m = s.addMeter(o, nextKind(o), at, chance)
	}
	r := s.attachNew(c, m, at, chance)
	return Change{CustomerMeterID: r.id, CustomerMeters: []uuid.UUID{r.id}}
}

func renameCustomer(c *Customer, chance *rand.Rand) {
	name := pick(chance, givenNames()) + " " + pick(chance, familyNames())
	if c.Type == "team" {
		name = pick(chance, companyNames())
	}
	c.Name = &name
}

// renameMeter goes from version to version of a name.
func renameMeter(m *Meter, at time.Time) {
	base, _, _ := strings.Cut(m.Name, " (since ")
	m.Name = base + " (since " + at.Format("15:04:05") + ")"
	m.ModifiedAt = at
}

func removeCustomer(c *Customer, _ *rand.Rand) { deleteCustomer(c) }
