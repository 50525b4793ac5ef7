package polarsim

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A Row is one customer meter as it is now: what a perfect mirror holds.
type Row struct {
	OrganizationID uuid.UUID
	ID             uuid.UUID
	CustomerID     uuid.UUID
	MeterID        uuid.UUID
	CreatedAt      time.Time // UTC, microseconds
	ModifiedAt     time.Time // likewise; zero for null
	Units          Units

	CustomerName      *string
	CustomerDeletedAt time.Time // zero if it was not
	MeterName         string
	Archived          bool // its meter is, so that the list leaves it out
	Unlisted          bool // see [Server.SetUnlisted]

	// Raw says that JSON was put in as text; then it need not agree with the
	// fields, which only place the row in the list.
	Raw  bool
	JSON string // the item as sent
}

func snapshotOf(r *row) Row {
	doc := appendRow(make([]byte, 0, bytesPerRow), r) // also loads the customer
	r.customer.load()
	out := Row{
		OrganizationID: r.meter.org.ID, ID: r.id, CustomerID: r.customer.id, MeterID: r.meter.id,
		CreatedAt: timeOf(r.created), ModifiedAt: timeOf(r.modified), Units: r.units,
		CustomerName: r.customer.name, MeterName: r.meter.doc.Name, Archived: r.meter.archived(), Unlisted: r.unlisted(),
		Raw: r.odd != nil && r.odd.hasRaw, JSON: string(doc),
	}
	if r.customer.edited != nil {
		out.CustomerDeletedAt = r.customer.edited.DeletedAt
	}
	return out
}

func snapshotsOf(rows []*row) []Row {
	all := make([]Row, len(rows))
	for i, r := range rows {
		all[i] = snapshotOf(r)
	}
	return all
}

// All yields the rows of an organization, archived and unlisted ones too, in the order
// created_at, customer_id, meter_id. It is one snapshot: the server waits while
// the loop runs, so its methods must not be called in it.
func (s *Server) All(organizationID uuid.UUID) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		o := s.byID[organizationID]
		if o == nil {
			return
		}
		for _, r := range inWalkOrder(o) {
			if !yield(snapshotOf(r)) {
				return
			}
		}
	}
}

// inWalkOrder returns an organization's rows by created_at, customer_id and
// meter_id.
func inWalkOrder(o *organization) []*row {
	rows := slices.Clone(o.rows)
	slices.SortFunc(rows, total(comparison([]criterion{
		{property: "created_at"}, {property: "customer_id"}, {property: "meter_id"}}, false)))
	return rows
}

// Snapshot returns what All yields, about 2 KB a row.
func (s *Server) Snapshot(organizationID uuid.UUID) []Row {
	return slices.Collect(s.All(organizationID))
}

// Listed returns the rows that the list call shows without filters.
func (s *Server) Listed(organizationID uuid.UUID) []Row {
	var rows []Row
	for r := range s.All(organizationID) {
		if !r.Archived && !r.Unlisted {
			rows = append(rows, r)
		}
	}
	return rows
}

// Find returns the row with an id, as the get call does.
func (s *Server) Find(id uuid.UUID) (Row, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[id]
	if r == nil {
		return Row{}, false
	}
	return snapshotOf(r), true
}

// Count returns how many rows an organization has, archived ones too.
func (s *Server) Count(organizationID uuid.UUID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.byID[organizationID]; o != nil {
		return len(o.rows)
	}
	return 0
}

// Meters returns an organization's meters, oldest first.
func (s *Server) Meters(organizationID uuid.UUID) []Meter {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return nil
	}
	all := make([]Meter, len(o.meters))
	for i, m := range o.meters {
		all[i] = m.doc
	}
	slices.SortStableFunc(all, func(a, b Meter) int { return cmp.Compare(micros(a.CreatedAt), micros(b.CreatedAt)) })
	return all
}

// Customers returns an organization's customers, in the order they were made.
func (s *Server) Customers(organizationID uuid.UUID) []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byID[organizationID]
	if o == nil {
		return nil
	}
	all := make([]Customer, len(o.customers))
	for i, c := range o.customers {
		all[i] = *c.doc()
	}
	return all
}
