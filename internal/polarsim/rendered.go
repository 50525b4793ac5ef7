package polarsim

import (
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A Rendered is one customer meter as it goes over the wire, rendered once to
// be sent many times. It shares the text of its customer and its meter with
// their other rows, so that a million of them take some 800 MB, and
// it does not change when they do.
type Rendered struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	MeterID    uuid.UUID
	CreatedAt  time.Time // UTC, microseconds
	ModifiedAt time.Time // likewise; zero for null

	head, customer, meter, extra []byte
}

// AppendTo adds the JSON to b.
func (r *Rendered) AppendTo(b []byte) []byte {
	b = append(b, r.head...)
	if r.customer == nil {
		return b // put in as text
	}
	b = append(b, r.customer...)
	b = append(b, betweenObjects...)
	b = append(b, r.meter...)
	b = append(b, r.extra...)
	return append(b, '}')
}

// Size is the length of the JSON in bytes.
func (r *Rendered) Size() int {
	if r.customer == nil {
		return len(r.head)
	}
	return len(r.head) + len(r.customer) + len(betweenObjects) + len(r.meter) + len(r.extra) + 1
}

// Rendered yields the rows of an organization that the list call shows without
// filters, in the order created_at, customer_id, meter_id. It is one snapshot:
// the server waits while the loop runs, so its methods must not be called in it.
func (s *Server) Rendered(organizationID uuid.UUID) iter.Seq[Rendered] {
	return func(yield func(Rendered) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		o := s.byID[organizationID]
		if o == nil {
			return
		}
		for _, r := range inWalkOrder(o) {
			if !r.meter.archived() && !r.unlisted() && !yield(renderedOf(r)) {
				return
			}
		}
	}
}

// FindRendered returns the row with an id, as the get call does.
func (s *Server) FindRendered(id uuid.UUID) (Rendered, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[id]
	if r == nil {
		return Rendered{}, false
	}
	return renderedOf(r), true
}

func renderedOf(r *row) Rendered {
	out := Rendered{
		ID: r.id, CustomerID: r.customer.id, MeterID: r.meter.id,
		CreatedAt: timeOf(r.created), ModifiedAt: timeOf(r.modified),
	}
	if r.odd != nil && r.odd.hasRaw {
		out.head = []byte(r.odd.raw)
		return out
	}
	r.customer.load()
	r.meter.load()
	out.head = slices.Clip(appendHead(make([]byte, 0, bytesPerHead), r))
	out.customer, out.meter = r.customer.json, r.meter.json
	if r.odd != nil {
		out.extra = appendExtra(nil, r.odd.extra)
	}
	return out
}

// bytesPerHead is about what stands in a row before its nested objects.
const bytesPerHead = 352
