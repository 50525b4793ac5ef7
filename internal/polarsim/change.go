package polarsim

import (
	"cmp"
	"fmt"
	"math"
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

func (s *Server) findOrganization(id uuid.UUID) (*organization, error) {
	if o := s.organization(id); o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("the simulated Polar has no organization %s", id)
}

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
	o, err := s.findOrganization(organizationID)
	if err != nil {
		return Row{}, err
	}
	r, err := s.add(o, n)
	if err != nil {
		return Row{}, err
	}
	return snapshotOf(r), nil
}

// add keeps the pair of customer and meter unique, as Polar's table does.
func (s *Server) add(o *organization, n NewCustomerMeter) (*row, error) {
	at := s.now()
	if !n.CreatedAt.IsZero() {
		at = precise(n.CreatedAt)
	}
	r := &row{id: newID(s.chance), created: at, modified: n.ModifiedAt, customer: s.customers[n.CustomerID], meter: s.meters[n.MeterID]}
	if !n.ModifiedAt.IsZero() {
		r.modified = precise(n.ModifiedAt)
	}
	switch {
	case n.CustomerID != uuid.Nil && (r.customer == nil || r.customer.org != o):
		return nil, fmt.Errorf("%s has no customer %s", o, n.CustomerID)
	case n.MeterID != uuid.Nil && (r.meter == nil || r.meter.org != o):
		return nil, fmt.Errorf("%s has no meter %s", o, n.MeterID)
	case r.customer != nil && r.meter != nil && r.customer.has(r.meter):
		return nil, fmt.Errorf("customer %s has meter %s already", n.CustomerID, n.MeterID)
	}
	u := Units{Consumed: cmp.Or(n.Units.Consumed, "0"), Credited: cmp.Or(n.Units.Credited, "0"), Balance: n.Units.Balance}
	if err := u.complete(); err != nil {
		return nil, err
	}
	r.units = u
	if r.customer == nil {
		r.customer = s.addCustomer(o, at, s.chance)
	}
	if r.meter == nil {
		r.meter = s.freeMeter(r.customer)
	}
	if r.meter == nil {
		r.meter = s.addMeter(o, "", at, s.chance)
	}
	s.edit([]*row{r}, func() { s.attach(r) })
	s.announce(r.customer, CustomerStateChanged)
	return r, nil
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
		kind.name = name
	case n >= len(kinds):
		kind.name += " " + strconv.Itoa(n/len(kinds)+1)
	}
	m := &meter{org: o, kind: kind, Meter: Meter{
		ID: newID(chance), OrganizationID: o.ID, CreatedAt: Time{at}, Name: kind.name, Unit: kind.unit,
		Filter: kind.filter, Aggregation: kind.aggregation, Metadata: `{"tier":"standard"}`,
	}}
	if kind.label != "" {
		m.CustomLabel, m.CustomMultiplier = &kind.label, &kind.multiplier
	}
	o.meters = append(o.meters, m)
	s.meters[m.ID] = m
	return m
}

func (s *Server) attach(r *row) {
	s.rows[r.id] = r
	r.customer.rows = append(r.customer.rows, r)
}

// AddOldCustomer adds a customer who was there since createdAt, with so many
// rows of that time: on meters in use first, on new ones if those run out. A
// mirror that asks only for what it knows and for what is new overlooks it.
func (s *Server) AddOldCustomer(organizationID uuid.UUID, createdAt time.Time, rows int) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.findOrganization(organizationID)
	if err != nil {
		return nil, err
	}
	n := NewCustomerMeter{CreatedAt: createdAt}
	var added []Row
	for range rows {
		r, err := s.add(o, n)
		if err != nil {
			return nil, err
		}
		n.CustomerID = r.customer.id
		added = append(added, snapshotOf(r))
	}
	return added, nil
}

// AddOldMeter adds a meter that was there since createdAt, with a row of that
// time for so many of the customers that are there (or all, if they are fewer)
// and for so many new ones. A mirror overlooks it as it does an old customer.
func (s *Server) AddOldMeter(organizationID uuid.UUID, name string, createdAt time.Time, present, unknown int) (Meter, []Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.findOrganization(organizationID)
	if err != nil {
		return Meter{}, nil, err
	}
	m := s.addMeter(o, name, precise(createdAt), s.chance)
	owners := make([]uuid.UUID, unknown) // zero for new customers
	for _, i := range s.chance.Perm(len(o.customers))[:min(present, len(o.customers))] {
		owners = append(owners, o.customers[i].id)
	}
	var added []Row
	for _, id := range owners {
		r, err := s.add(o, NewCustomerMeter{CustomerID: id, MeterID: m.ID, CreatedAt: createdAt})
		if err != nil {
			return Meter{}, nil, err
		}
		added = append(added, snapshotOf(r))
	}
	return m.Meter, added, nil
}

// DeleteCustomerMeter removes a row for good: neither call shows it any more.
// Polar has no ordinary way to do that.
func (s *Server) DeleteCustomerMeter(id uuid.UUID) (Row, error) {
	return s.change(id, func(r *row) error {
		s.remove(r)
		return nil
	})
}

func (s *Server) remove(r *row) {
	s.edit([]*row{r}, func() {
		delete(s.rows, r.id)
		r.customer.rows = slices.DeleteFunc(r.customer.rows, func(x *row) bool { return x == r })
	})
}

// change finds a row, changes it and returns it, as one step.
func (s *Server) change(id uuid.UUID, f func(r *row) error) (Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := find(s.rows, "customer meter", id)
	if err != nil {
		return Row{}, err
	}
	if err := f(r); err != nil {
		return Row{}, fmt.Errorf("change customer meter %s: %w", id, err)
	}
	return snapshotOf(r), nil
}

// SetUnits sets the quantities of a row to literal JSON numbers and moves its
// modified_at to now. Empty ones stay, except that an empty Balance is
// calculated. The numbers are taken as they are, however odd.
func (s *Server) SetUnits(id uuid.UUID, u Units) (Row, error) {
	return s.change(id, func(r *row) error { return s.set(r, u, later(s.now(), r)) })
}

// SetState is SetUnits with the modified_at that a test wants, such as that of an
// older state; zero for null.
func (s *Server) SetState(id uuid.UUID, u Units, modifiedAt time.Time) (Row, error) {
	return s.change(id, func(r *row) error { return s.set(r, u, precise(modifiedAt)) })
}

// Consume adds an amount, a JSON number, to the consumption of a row.
func (s *Server) Consume(id uuid.UUID, amount string) (Row, error) {
	return s.ConsumeLate(id, amount, s.now())
}

// ConsumeLate is [Server.Consume] by a transaction that began at a time in the
// past and commits only now: modified_at is that time, or just after the row's
// last change.
func (s *Server) ConsumeLate(id uuid.UUID, amount string, at time.Time) (Row, error) {
	return s.change(id, func(r *row) error { return s.consume(r, amount, precise(at)) })
}

// Reset begins a new billing period: nothing is consumed yet.
func (s *Server) Reset(id uuid.UUID) (Row, error) { return s.SetUnits(id, Units{Consumed: "0"}) }

// Credit adds to the credited units of a row.
func (s *Server) Credit(id uuid.UUID, units int64) (Row, error) {
	return s.change(id, func(r *row) error { return s.credit(r, units, s.now()) })
}

// RestoreOlder takes back the last change of a row's units, modified_at
// included, as a database restored from a backup does. It is told to nobody, as
// nobody at Polar knows of it. It is an error if the row has never changed.
func (s *Server) RestoreOlder(id uuid.UUID) (Row, error) {
	return s.change(id, func(r *row) error {
		older := r.older
		if older == nil {
			return fmt.Errorf("it has no older state")
		}
		s.edit([]*row{r}, func() { r.units, r.modified, r.older = older.units, older.modified, nil })
		return nil
	})
}

// SetUnlisted hides a row from every list, whatever its filter, or lists it
// again. The get call shows it all the time.
func (s *Server) SetUnlisted(id uuid.UUID, unlisted bool) (Row, error) {
	return s.change(id, func(r *row) error {
		s.edit([]*row{r}, func() { r.hidden = unlisted })
		return nil
	})
}

// SetRaw makes the calls send text instead of the row, valid JSON or not.
func (s *Server) SetRaw(id uuid.UUID, text string) (Row, error) {
	return s.change(id, func(r *row) error {
		r.raw = &text
		return nil
	})
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
func (s *Server) set(r *row, u Units, modified time.Time) error {
	u.Consumed, u.Credited = cmp.Or(u.Consumed, r.units.Consumed), cmp.Or(u.Credited, r.units.Credited)
	if err := u.complete(); err != nil {
		return err
	}
	r.older = &state{units: r.units, modified: r.modified}
	s.edit([]*row{r}, func() { r.units, r.modified = u, modified })
	s.announce(r.customer, CustomerStateChanged)
	return nil
}

// complete calculates an empty balance.
func (u *Units) complete() (err error) {
	if u.Balance == "" {
		u.Balance, err = combine(u.Credited, u.Consumed, (*big.Rat).Sub)
	}
	return err
}

func (s *Server) consume(r *row, amount string, at time.Time) error {
	consumed, err := combine(r.units.Consumed, amount, (*big.Rat).Add)
	if err != nil {
		return err
	}
	return s.set(r, Units{Consumed: consumed}, later(at, r))
}

// credit stops at the largest 64-bit integer, as the column does.
func (s *Server) credit(r *row, units int64, at time.Time) error {
	credited, err := strconv.ParseInt(r.units.Credited, 10, 64)
	if err != nil {
		return err
	}
	return s.set(r, Units{Credited: strconv.FormatInt(credited+min(units, math.MaxInt64-credited), 10)}, later(at, r))
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
	deleted := doc.DeletedAt
	if !at.After(doc.ModifiedAt.Time) { // modified_at moves with every change
		at = doc.ModifiedAt.Add(time.Microsecond)
	}
	doc.ModifiedAt = Time{at}
	f(doc)
	s.edit(c.rows, func() { c.edited, c.json = doc, nil })
	event := CustomerUpdated
	if deleted.IsZero() && !doc.DeletedAt.IsZero() {
		event = CustomerDeleted
	}
	s.announce(c, event, CustomerStateChanged)
}

// AddMeter adds a meter to an organization and returns it.
func (s *Server) AddMeter(organizationID uuid.UUID, name string) (Meter, error) {
	m, _, err := s.AddOldMeter(organizationID, name, s.now(), 0, 0)
	return m, err
}

// ArchiveMeter takes every row of a meter out of the list, and returns how many
// those are. The get call still shows them.
func (s *Server) ArchiveMeter(id uuid.UUID) (int, error) {
	return s.changeMeter(id, func(m *meter, at time.Time) { m.ArchivedAt = Time{at} })
}

// UnarchiveMeter puts them back.
func (s *Server) UnarchiveMeter(id uuid.UUID) (int, error) {
	return s.changeMeter(id, func(m *meter, _ time.Time) { m.ArchivedAt = Time{} })
}

// FlapMeter archives a meter, or unarchives it if it is archived, and reports
// which of the two.
func (s *Server) FlapMeter(id uuid.UUID) (archived bool, err error) {
	_, err = s.changeMeter(id, func(m *meter, at time.Time) {
		archived = m.ArchivedAt.IsZero()
		m.ArchivedAt = Time{}
		if archived {
			m.ArchivedAt = Time{at}
		}
	})
	return archived, err
}

// RenameMeter changes the name nested in every row of a meter, and returns how
// many those are. No row's modified_at moves.
func (s *Server) RenameMeter(id uuid.UUID, name string) (int, error) {
	return s.changeMeter(id, func(m *meter, _ time.Time) { m.Name = name })
}

func (s *Server) changeMeter(id uuid.UUID, f func(m *meter, at time.Time)) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := find(s.meters, "meter", id)
	if err != nil {
		return 0, err
	}
	return s.editMeter(m, s.now(), f), nil
}

func (s *Server) editMeter(m *meter, at time.Time, f func(m *meter, at time.Time)) int {
	rows := m.rows()
	s.edit(rows, func() {
		m.ModifiedAt, m.json = Time{at}, nil
		f(m, at)
	})
	return len(rows)
}

// ReturnMeter unarchives a meter after something was consumed at a time in its
// absence on so many of its rows (or all, if they are fewer), and returns those.
// Their modified_at is that time, or just after their last change.
func (s *Server) ReturnMeter(id uuid.UUID, changes int, at time.Time) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := find(s.meters, "meter", id)
	if err != nil {
		return nil, err
	}
	rows := m.rows()
	rows = rows[:min(changes, len(rows))]
	for _, r := range rows {
		if err := s.consume(r, "1", precise(at)); err != nil {
			return nil, fmt.Errorf("return meter %s: customer meter %s: %w", id, r.id, err)
		}
	}
	s.editMeter(m, s.now(), func(m *meter, _ time.Time) { m.ArchivedAt = Time{} })
	var changed []Row
	for _, r := range rows {
		changed = append(changed, snapshotOf(r))
	}
	return changed, nil
}
