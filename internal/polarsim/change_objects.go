package polarsim

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// AddMeter adds a meter to an organization and returns it.
func (s *Server) AddMeter(organizationID uuid.UUID, name string) (Meter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return Meter{}, fmt.Errorf("add meter: organization %s: %w", organizationID, ErrUnknown)
	}
	kind := nextKind(o)
	kind.name = name
	return s.addMeter(o, kind, s.now(), s.chance).doc, nil
}

// ArchiveMeter takes every row of a meter out of the list, and returns how many
// those are. The get call still shows them.
func (s *Server) ArchiveMeter(id uuid.UUID) (int, error) {
	return s.editMeter("archive", id, archive)
}

// UnarchiveMeter puts them back.
func (s *Server) UnarchiveMeter(id uuid.UUID) (int, error) {
	return s.editMeter("unarchive", id, unarchive)
}

// RenameMeter changes the name nested in every row of a meter, and returns how
// many those are. No row's modified_at moves.
func (s *Server) RenameMeter(id uuid.UUID, name string) (int, error) {
	return s.EditMeter(id, func(m *Meter) { m.Name = name })
}

// EditMeter changes a meter in any way, new enum values and unknown members
// included, and returns how many rows show it.
func (s *Server) EditMeter(id uuid.UUID, f func(m *Meter)) (int, error) {
	return s.editMeter("edit", id, func(m *Meter, at time.Time) {
		m.ModifiedAt = at
		f(m)
	})
}

func (s *Server) editMeter(verb string, id uuid.UUID, f func(m *Meter, at time.Time)) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meters[id]
	if m == nil {
		return 0, fmt.Errorf("%s meter %s: %w", verb, id, ErrUnknown)
	}
	return s.changeMeter(m, timeOf(s.now()), f), nil
}

func archive(m *Meter, at time.Time) { m.ArchivedAt, m.ModifiedAt = at, at }

func unarchive(m *Meter, at time.Time) { m.ArchivedAt, m.ModifiedAt = time.Time{}, at }

func (s *Server) changeMeter(m *meter, at time.Time, f func(m *Meter, at time.Time)) int {
	s.edit(m.rows, func() {
		f(&m.doc, at)
		m.json = nil
	})
	return len(m.rows)
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

// EditCustomer changes a customer in any way, new enum values and unknown
// members included, and returns the ids of the rows that show it. ModifiedAt is
// set to now, or just after the last change, before f sees it.
func (s *Server) EditCustomer(id uuid.UUID, f func(c *Customer)) ([]uuid.UUID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.customers[id]
	if c == nil {
		return nil, fmt.Errorf("edit customer %s: %w", id, ErrUnknown)
	}
	return s.changeCustomer(c, timeOf(s.now()), f), nil
}

func (s *Server) changeCustomer(c *customer, at time.Time, f func(c *Customer)) []uuid.UUID {
	doc := c.doc()
	deleted := !doc.DeletedAt.IsZero()
	if at.After(doc.ModifiedAt) {
		doc.ModifiedAt = at
	} else { // modified_at moves with every change
		doc.ModifiedAt = doc.ModifiedAt.Add(time.Microsecond)
	}
	f(doc)
	rows := slices.Clone(c.rows)
	s.edit(rows, func() { c.edited, c.loaded = doc, false })
	if !deleted && !doc.DeletedAt.IsZero() {
		s.announce(c, CustomerDeleted, CustomerStateChanged)
	} else {
		s.announce(c, CustomerUpdated, CustomerStateChanged)
	}
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.id
	}
	return ids
}
