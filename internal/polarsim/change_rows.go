package polarsim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A NewCustomerMeter says what to add. Its zero value is what Polar adds most
// often: a new customer looks at a meter now, and nothing was consumed yet.
type NewCustomerMeter struct {
	CustomerID uuid.UUID // zero: a new customer
	MeterID    uuid.UUID // zero: any that the customer does not have yet

	// CreatedAt is zero for now. A time in the past is a late commit: a
	// transaction that began then and becomes visible only now.
	CreatedAt  time.Time
	ModifiedAt time.Time // zero for null
	Units      Units     // empty ones are 0, an empty Balance is calculated
}

// AddCustomerMeter adds a row to an organization.
func (s *Server) AddCustomerMeter(organizationID uuid.UUID, n NewCustomerMeter) (Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return Row{}, fmt.Errorf("add customer meter: organization %s: %w", organizationID, ErrUnknown)
	}
	at := s.now()
	if !n.CreatedAt.IsZero() {
		at = micros(n.CreatedAt)
	}
	c, err := s.customerFor(o, n, at)
	if err != nil {
		return Row{}, fmt.Errorf("add customer meter: %w", err)
	}
	m, err := s.meterFor(o, c, n, at)
	if err != nil {
		return Row{}, fmt.Errorf("add customer meter: %w", err)
	}
	r := s.newRow(c, m, at, s.chance)
	r.modified = nullable(n.ModifiedAt)
	fill(&r.units.Consumed, n.Units.Consumed)
	fill(&r.units.Credited, n.Units.Credited)
	if r.units.Balance = n.Units.Balance; r.units.Balance == "" {
		if r.units.Balance, err = difference(r.units.Credited, r.units.Consumed); err != nil {
			return Row{}, fmt.Errorf("add customer meter: %w", err)
		}
	}
	s.edit([]*row{r}, func() { s.attach(o, r) })
	s.announce(c, CustomerStateChanged)
	return snapshotOf(r), nil
}

func fill(at *string, value string) {
	if value != "" {
		*at = value
	}
}

func (s *Server) customerFor(o *organization, n NewCustomerMeter, at int64) (*customer, error) {
	if n.CustomerID == uuid.Nil {
		return s.addCustomer(o, at, s.chance), nil
	}
	c := s.customers[n.CustomerID]
	if c == nil || c.org != o {
		return nil, fmt.Errorf("customer %s: %w", n.CustomerID, ErrUnknown)
	}
	return c, nil
}

// meterFor keeps the pair of customer and meter unique, as Polar's table does.
func (s *Server) meterFor(o *organization, c *customer, n NewCustomerMeter, at int64) (*meter, error) {
	if n.MeterID != uuid.Nil {
		m := s.meters[n.MeterID]
		if m == nil || m.org != o {
			return nil, fmt.Errorf("meter %s: %w", n.MeterID, ErrUnknown)
		}
		if c.has(m) {
			return nil, fmt.Errorf("customer %s has meter %s already", c.id, m.id)
		}
		return m, nil
	}
	if m := freeMeter(o, c, s.chance); m != nil {
		return m, nil
	}
	return s.addMeter(o, nextKind(o), at, s.chance), nil
}

// nextKind is that of the organization's next meter.
func nextKind(o *organization) *meterKind {
	kinds := meterKinds()
	return kinds[len(o.meters)%len(kinds)]
}

// attachNew puts a row as Polar makes it in its place.
func (s *Server) attachNew(c *customer, m *meter, at int64, chance *rand.Rand) *row {
	r := s.newRow(c, m, at, chance)
	s.edit([]*row{r}, func() { s.attach(m.org, r) })
	s.announce(c, CustomerStateChanged)
	return r
}

// freeMeter returns a meter in use that the customer does not have, or nil.
func freeMeter(o *organization, c *customer, chance *rand.Rand) *meter {
	if len(o.meters) == 0 {
		return nil
	}
	first := chance.IntN(len(o.meters))
	for i := range o.meters {
		if m := o.meters[(first+i)%len(o.meters)]; !m.archived() && !c.has(m) {
			return m
		}
	}
	return nil
}

func (c *customer) has(m *meter) bool {
	return slices.ContainsFunc(c.rows, func(r *row) bool { return r.meter == m })
}

// DeleteCustomerMeter removes a row for good: neither call shows it any more.
// Polar has no ordinary way to do that.
func (s *Server) DeleteCustomerMeter(id uuid.UUID) (Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[id]
	if r == nil {
		return Row{}, fmt.Errorf("delete customer meter %s: %w", id, ErrUnknown)
	}
	last := snapshotOf(r)
	s.remove(r)
	return last, nil
}

func (s *Server) remove(r *row) {
	s.edit([]*row{r}, func() {
		r.meter.org.detach(r)
		delete(s.rows, r.id)
	})
}

// SetExtra adds members to a row's JSON object, as text without braces such as
// `"rollover":true`; empty takes them away.
func (s *Server) SetExtra(id uuid.UUID, members string) (Row, error) {
	return s.change(id, func(r *row) error {
		r.oddity().extra = members
		return nil
	})
}

// SetRaw makes the calls send text instead of the rendered row, valid JSON or
// not.
func (s *Server) SetRaw(id uuid.UUID, text string) (Row, error) {
	return s.change(id, func(r *row) error {
		r.oddity().raw, r.odd.hasRaw = text, true
		return nil
	})
}

// A RawRow is a row sent as given, and its place in the list.
type RawRow struct {
	JSON string // sent as it is, valid or not

	// What the server sorts, filters and finds by. Zero ids are made up, a zero
	// CreatedAt is now, a zero ModifiedAt null.
	ID, CustomerID, MeterID uuid.UUID
	CreatedAt, ModifiedAt   time.Time
}

// InsertRaw adds a row of arbitrary text to an organization.
func (s *Server) InsertRaw(organizationID uuid.UUID, n RawRow) (Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return Row{}, fmt.Errorf("insert raw row: organization %s: %w", organizationID, ErrUnknown)
	}
	at := s.now()
	if !n.CreatedAt.IsZero() {
		at = micros(n.CreatedAt)
	}
	r := s.newRow(s.rawCustomer(o, n.CustomerID, at), s.rawMeter(o, n.MeterID), at, s.chance)
	if n.ID != uuid.Nil {
		r.id = n.ID
	}
	if s.rows[r.id] != nil {
		return Row{}, fmt.Errorf("insert raw row: customer meter %s is there already", r.id)
	}
	r.modified = nullable(n.ModifiedAt)
	r.oddity().raw, r.odd.hasRaw = n.JSON, true
	s.edit([]*row{r}, func() { s.attach(o, r) })
	return snapshotOf(r), nil
}

// rawCustomer finds a customer or makes up one that only sorts.
func (s *Server) rawCustomer(o *organization, id uuid.UUID, at int64) *customer {
	if c := s.customers[id]; c != nil && c.org == o {
		return c
	}
	if id == uuid.Nil {
		id = newID(s.chance)
	}
	c := &customer{id: id, org: o, seed: s.chance.Uint64(), created: at}
	s.rawCustomers = append(s.rawCustomers, c)
	return c
}

// rawMeter likewise.
func (s *Server) rawMeter(o *organization, id uuid.UUID) *meter {
	if m := s.meters[id]; m != nil && m.org == o {
		return m
	}
	if id == uuid.Nil {
		id = newID(s.chance)
	}
	kind := meterKinds()[0]
	m := &meter{id: id, org: o, kind: kind, doc: Meter{ID: id, OrganizationID: o.ID, Name: kind.name}}
	s.rawMeters = append(s.rawMeters, m)
	return m
}
