package polarsim

import (
	"bytes"
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

	CustomerName *string
	MeterName    string
	Archived     bool // its meter is, so that the list leaves it out
	Unlisted     bool // see [Server.SetUnlisted]

	// Raw says that JSON was put in as text; then it need not agree with the
	// fields, which only place the row in the list.
	Raw  bool
	JSON string // the item as sent
}

func snapshotOf(r *row) Row {
	return Row{
		OrganizationID: r.meter.org.ID, ID: r.id, CustomerID: r.customer.id, MeterID: r.meter.ID,
		CreatedAt: r.created, ModifiedAt: r.modified, Units: r.units,
		CustomerName: r.customer.load().name, MeterName: r.meter.Name, Archived: !r.meter.ArchivedAt.IsZero(), Unlisted: r.hidden,
		Raw: r.raw != nil, JSON: r.load().json,
	}
}

// All yields the rows of an organization, archived and unlisted ones too, in the
// order created_at, customer_id, meter_id. It is one snapshot: the server waits
// while the loop runs, so its methods must not be called in it.
func (s *Server) All(organizationID uuid.UUID) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		look(s, organizationID, func(o *organization) (none struct{}) {
			for _, r := range slices.SortedFunc(o.rows(), func(a, b *row) int {
				return cmp.Or(a.created.Compare(b.created), bytes.Compare(a.customer.id[:], b.customer.id[:]), bytes.Compare(a.meter.ID[:], b.meter.ID[:]))
			}) {
				if !yield(snapshotOf(r)) {
					break
				}
			}
			return none
		})
	}
}

// Snapshot returns what All yields, about 2 KB a row.
func (s *Server) Snapshot(organizationID uuid.UUID) []Row {
	return slices.Collect(s.All(organizationID))
}

// Listed returns the rows that the list call shows without filters.
func (s *Server) Listed(organizationID uuid.UUID) []Row {
	return slices.DeleteFunc(s.Snapshot(organizationID), func(r Row) bool { return r.Archived || r.Unlisted })
}

// Find returns the row with an id, as the get call does.
func (s *Server) Find(id uuid.UUID) (Row, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rows[id]; r != nil {
		return snapshotOf(r), true
	}
	return Row{}, false
}

// look returns what f sees in an organization, nothing if there is none with the id.
func look[T any](s *Server, organizationID uuid.UUID, f func(o *organization) T) T {
	seen, _ := in(s, organizationID, func(o *organization) (T, error) { return f(o), nil })
	return seen
}

// Meters returns an organization's meters, oldest first.
func (s *Server) Meters(organizationID uuid.UUID) []Meter {
	return look(s, organizationID, func(o *organization) (all []Meter) {
		for _, m := range o.meters {
			all = append(all, m.Meter)
		}
		slices.SortStableFunc(all, func(a, b Meter) int { return a.CreatedAt.Compare(b.CreatedAt.Time) })
		return all
	})
}

// Customers returns an organization's customers, in the order they were made.
func (s *Server) Customers(organizationID uuid.UUID) []Customer {
	return look(s, organizationID, func(o *organization) (all []Customer) {
		for _, c := range o.customers {
			all = append(all, *c.doc())
		}
		return all
	})
}
