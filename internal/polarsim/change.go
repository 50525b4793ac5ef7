package polarsim

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// find returns what an id stands for, or an error that says what is unknown.
func find[T any](all map[uuid.UUID]*T, what string, id uuid.UUID) (*T, error) {
	if found := all[id]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("the simulated Polar has no %s %s", what, id)
}

// in returns what f sees in an organization, or does to it, as one step.
func in[T any](s *Server, organizationID uuid.UUID, f func(o *organization) (T, error)) (result T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.organizations {
		if o.ID == organizationID {
			return f(o)
		}
	}
	return result, fmt.Errorf("the simulated Polar has no organization %s", organizationID)
}

// A NewCustomerMeter says what to add. Its zero value is what Polar adds most
// often: a new customer looks at a meter now, and nothing was consumed yet.
type NewCustomerMeter struct {
	CustomerID uuid.UUID // zero: a new customer
	MeterID    uuid.UUID // zero: any that the customer does not have yet

	// CreatedAt is zero for now. A time in the past is a late commit: a
	// transaction that began then and becomes visible only now.
	CreatedAt time.Time
	Units     Units // empty ones are 0, an empty Balance is calculated
}

// AddCustomerMeter adds a row to an organization. The pair of customer and meter
// stays unique, as in Polar's table.
func (s *Server) AddCustomerMeter(organizationID uuid.UUID, n NewCustomerMeter) (Row, error) {
	return in(s, organizationID, func(o *organization) (Row, error) {
		c, m := s.customers[n.CustomerID], s.meters[n.MeterID]
		switch {
		case n.CustomerID != uuid.Nil && (c == nil || c.org != o):
			return Row{}, fmt.Errorf("%s has no customer %s", o, n.CustomerID)
		case n.MeterID != uuid.Nil && (m == nil || m.org != o):
			return Row{}, fmt.Errorf("%s has no meter %s", o, n.MeterID)
		case c != nil && m != nil && c.has(m):
			return Row{}, fmt.Errorf("customer %s has meter %s already", n.CustomerID, n.MeterID)
		}
		at := n.CreatedAt
		if at.IsZero() {
			at = s.now()
		}
		return snapshotOf(s.add(o, c, m, precise(at), n.Units)), nil
	})
}

// add adds a row. Without a customer it is a new one's, without a meter one's that
// the customer does not have yet.
func (s *Server) add(o *organization, c *customer, m *meter, at time.Time, u Units) *row {
	r := &row{id: newID(s.chance), created: at, customer: c, meter: m}
	r.units = Units{Consumed: cmp.Or(u.Consumed, "0"), Credited: cmp.Or(u.Credited, "0"), Balance: u.Balance}.complete()
	if r.customer == nil {
		r.customer = s.addCustomer(o, at, s.chance)
	}
	if r.meter == nil {
		r.meter = s.freeMeter(r.customer)
	}
	if r.meter == nil {
		r.meter = s.addMeter(o, "", at, s.chance)
	}
	s.attach(r)
	s.announce(r.customer, CustomerStateChanged)
	return r
}

// freeMeter returns a meter in use that the customer does not have, or nil.
func (s *Server) freeMeter(c *customer) *meter {
	first := s.chance.IntN(max(1, len(c.org.meters)))
	for i := range c.org.meters {
		if m := c.org.meters[(first+i)%len(c.org.meters)]; m.ArchivedAt.IsZero() && !c.has(m) {
			return m
		}
	}
	return nil
}

func (s *Server) addCustomer(o *organization, at time.Time, chance *rand.Rand) *customer {
	c := &customer{id: newID(chance), org: o, seed: chance.Uint64(), created: at}
	o.customers = append(o.customers, c)
	s.customers[c.id] = c
	s.announce(c, CustomerCreated, CustomerStateChanged)
	return c
}

// addMeter adds a meter of the next kind, named after it unless a name is given.
func (s *Server) addMeter(o *organization, name string, at time.Time, chance *rand.Rand) *meter {
	kinds, n := meterKinds(), len(o.meters)
	kind := kinds[n%len(kinds)]
	switch {
	case name != "":
		kind.Name = name
	case n >= len(kinds):
		kind.Name += " " + strconv.Itoa(n/len(kinds)+1)
	}
	m := &meter{org: o, kind: kind, Meter: kind.Meter}
	m.ID, m.OrganizationID, m.CreatedAt, m.Metadata = newID(chance), o.ID, Time{at}, `{"tier":"standard"}`
	o.meters = append(o.meters, m)
	s.meters[m.ID] = m
	return m
}

func (s *Server) attach(r *row) {
	clear(s.views)
	s.rows[r.id] = r
	r.customer.rows = append(r.customer.rows, r)
}

// AddOldCustomer adds a customer who was there since createdAt, with so many
// rows of that time: on meters in use first, on new ones if those run out. A
// mirror that asks only for what it knows and for what is new overlooks it.
func (s *Server) AddOldCustomer(organizationID uuid.UUID, createdAt time.Time, rows int) ([]Row, error) {
	return in(s, organizationID, func(o *organization) (added []Row, err error) {
		var c *customer
		for range rows {
			r := s.add(o, c, nil, precise(createdAt), Units{})
			c, added = r.customer, append(added, snapshotOf(r))
		}
		return added, nil
	})
}

// AddMeter adds a meter to an organization.
func (s *Server) AddMeter(organizationID uuid.UUID, name string) (Meter, error) {
	return s.AddOldMeter(organizationID, name, s.now(), 0, 0)
}

// AddOldMeter adds a meter that was there since createdAt, with a row of that
// time for so many of the customers that are there (or all, if they are fewer)
// and for so many new ones. A mirror overlooks it as it does an old customer.
func (s *Server) AddOldMeter(organizationID uuid.UUID, name string, createdAt time.Time, present, unknown int) (Meter, error) {
	return in(s, organizationID, func(o *organization) (Meter, error) {
		at := precise(createdAt)
		m := s.addMeter(o, name, at, s.chance)
		owners := make([]*customer, unknown) // nil for new customers
		for _, i := range s.chance.Perm(len(o.customers))[:min(present, len(o.customers))] {
			owners = append(owners, o.customers[i])
		}
		for _, c := range owners {
			s.add(o, c, m, at, Units{})
		}
		return m.Meter, nil
	})
}

// DeleteCustomerMeter removes a row for good: neither call shows it any more.
// Polar has no ordinary way to do that.
func (s *Server) DeleteCustomerMeter(id uuid.UUID) (Row, error) {
	return s.change(id, func(r *row) {
		delete(s.rows, r.id)
		r.customer.rows = slices.DeleteFunc(r.customer.rows, func(x *row) bool { return x == r })
	})
}

// change finds a row, changes it and returns it, as one step.
func (s *Server) change(id uuid.UUID, f func(r *row)) (Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := find(s.rows, "customer meter", id)
	if err != nil {
		return Row{}, err
	}
	clear(s.views)
	f(r)
	return snapshotOf(r), nil
}

// SetUnits sets the quantities of a row to literal JSON numbers and moves its
// modified_at to now. Empty ones stay, except that an empty Balance is
// calculated. The numbers are taken as they are, however odd.
func (s *Server) SetUnits(id uuid.UUID, u Units) (Row, error) {
	return s.change(id, func(r *row) { s.set(r, u, later(s.now(), r)) })
}

// SetState is SetUnits with the modified_at that a test wants, such as that of an
// older state, to which a database restored from a backup returns; zero for null.
func (s *Server) SetState(id uuid.UUID, u Units, modifiedAt time.Time) (Row, error) {
	return s.change(id, func(r *row) { s.set(r, u, precise(modifiedAt)) })
}

// Consume adds an amount, a JSON number, to the consumption of a row.
func (s *Server) Consume(id uuid.UUID, amount string) (Row, error) {
	return s.ConsumeLate(id, amount, s.now())
}

// ConsumeLate is [Server.Consume] by a transaction that began at a time in the
// past and commits only now: modified_at is that time, or just after the row's
// last change.
func (s *Server) ConsumeLate(id uuid.UUID, amount string, at time.Time) (Row, error) {
	return s.change(id, func(r *row) { s.consume(r, amount, precise(at)) })
}

// Reset begins a new billing period: nothing is consumed yet.
func (s *Server) Reset(id uuid.UUID) (Row, error) { return s.SetUnits(id, Units{Consumed: "0"}) }

// SetUnlisted hides a row from every list, whatever its filter, or lists it
// again. The get call shows it all the time.
func (s *Server) SetUnlisted(id uuid.UUID, unlisted bool) (Row, error) {
	return s.change(id, func(r *row) { r.hidden = unlisted })
}

// SetRaw makes the calls send text instead of the row, valid JSON or not.
func (s *Server) SetRaw(id uuid.UUID, text string) (Row, error) {
	return s.change(id, func(r *row) { r.raw = &text })
}

// later is a time, or just after the row's last change should that not be
// earlier: modified_at moves with every change.
func later(at time.Time, r *row) time.Time {
	switch {
	case !at.After(r.modified):
		return r.modified.Add(time.Microsecond)
	case at.Before(r.created):
		return r.created
	}
	return at
}

// set changes what is not empty in u and calculates an empty balance.
func (s *Server) set(r *row, u Units, modified time.Time) {
	u.Consumed, u.Credited = cmp.Or(u.Consumed, r.units.Consumed), cmp.Or(u.Credited, r.units.Credited)
	r.units, r.modified, r.json = u.complete(), modified, ""
	s.announce(r.customer, CustomerStateChanged)
}

func (s *Server) consume(r *row, amount string, at time.Time) {
	s.set(r, Units{Consumed: combine(r.units.Consumed, amount, (*big.Rat).Add)}, later(at, r))
}

// RenameCustomer changes the name nested in every row of a customer, and
// returns the ids of those rows. No row's modified_at moves.
func (s *Server) RenameCustomer(id uuid.UUID, name string) ([]uuid.UUID, error) {
	return s.EditCustomer(id, func(c *Customer) { c.Name = &name })
}

// DeleteCustomer deletes a customer softly, as Polar does: its rows stay in the
// list and show the time in customer.deleted_at. Its external id is cleared, so
// that a filter by it finds them no more. It returns their ids.
func (s *Server) DeleteCustomer(id uuid.UUID) ([]uuid.UUID, error) {
	return s.EditCustomer(id, deleteCustomer)
}

func deleteCustomer(c *Customer) {
	if c.DeletedAt.IsZero() {
		c.DeletedAt, c.ExternalID = c.ModifiedAt, nil
	}
}

// EditCustomer changes a customer in any way and returns the ids of the rows
// that show it. ModifiedAt is set to now, or just after the last change, before f
// sees it.
func (s *Server) EditCustomer(id uuid.UUID, f func(c *Customer)) ([]uuid.UUID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := find(s.customers, "customer", id)
	if err != nil {
		return nil, err
	}
	s.editCustomer(c, s.now(), f)
	var ids []uuid.UUID
	for _, r := range c.rows {
		ids = append(ids, r.id)
	}
	return ids, nil
}

func (s *Server) editCustomer(c *customer, at time.Time, f func(c *Customer)) {
	doc := c.doc()
	if !at.After(doc.ModifiedAt.Time) { // modified_at moves with every change
		at = doc.ModifiedAt.Add(time.Microsecond)
	}
	doc.ModifiedAt = Time{at}
	f(doc)
	clear(s.views)
	c.edited, c.json = doc, nil
	for _, r := range c.rows {
		r.json = ""
	}
	event := CustomerUpdated
	if doc.DeletedAt == doc.ModifiedAt { // it was deleted now
		event = CustomerDeleted
	}
	s.announce(c, event, CustomerStateChanged)
}

// ArchiveMeter takes every row of a meter out of the list, and returns how many
// those are. The get call still shows them.
func (s *Server) ArchiveMeter(id uuid.UUID) (int, error) {
	return s.changeMeter(id, func(m *meter) { m.ArchivedAt = m.ModifiedAt })
}

// UnarchiveMeter puts them back.
func (s *Server) UnarchiveMeter(id uuid.UUID) (int, error) {
	return s.changeMeter(id, func(m *meter) { m.ArchivedAt = Time{} })
}

// RenameMeter changes the name nested in every row of a meter, and returns how
// many those are. No row's modified_at moves.
func (s *Server) RenameMeter(id uuid.UUID, name string) (int, error) {
	return s.changeMeter(id, func(m *meter) { m.Name = name })
}

func (s *Server) changeMeter(id uuid.UUID, f func(m *meter)) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := find(s.meters, "meter", id)
	if err != nil {
		return 0, err
	}
	clear(s.views)
	m.ModifiedAt, m.json = Time{s.now()}, nil
	f(m)
	rows := 0
	for r := range m.org.rows() {
		if r.meter == m {
			r.json = ""
			rows++
		}
	}
	return rows, nil
}
