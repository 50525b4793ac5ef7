package polarsim

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"
)

// A view is one filtered and sorted list. Any change of the data ends the life of
// all views.
type view struct {
	rows []*row              // by id where the order asked for leaves a choice
	ties func(a, b *row) int // 0 for rows that the order asked for leaves in any order
}

// A filter says which rows a list call sees. Empty parts let everything pass;
// values within one part are alternatives.
type filter struct {
	organizations []*organization // never empty in a view
	customers     []uuid.UUID
	meters        []uuid.UUID
	external      []string
}

func (f *filter) match(r *row) bool {
	if r.hidden || !slices.Contains(f.organizations, r.meter.org) {
		return false
	}
	if len(f.customers) > 0 && !slices.Contains(f.customers, r.customer.id) {
		return false
	}
	if len(f.external) > 0 {
		if id := r.customer.load().externalID; id == nil || !slices.Contains(f.external, *id) {
			return false
		}
	}
	// Archived meters are listed only to those who name them.
	if len(f.meters) > 0 {
		return slices.Contains(f.meters, r.meter.ID)
	}
	return r.meter.ArchivedAt.IsZero()
}

// view returns the list for a filter and order, sorting it if it is not at
// hand. Lists of chosen customers are short and many, so they are made for each
// request, of these customers' rows alone, and not kept. The server must be locked.
func (s *Server) view(f filter, criteria []criterion) *view {
	var rows []*row
	if len(f.customers) > 0 {
		for i, id := range f.customers {
			if c := s.customers[id]; c != nil && !slices.Contains(f.customers[:i], id) {
				rows = append(rows, c.rows...)
			}
		}
		return s.newView(rows, f, criteria)
	}
	key := fmt.Sprintf("%#v %v", f, criteria)
	if s.views[key] == nil {
		for _, o := range f.organizations {
			rows = slices.AppendSeq(rows, o.rows())
		}
		s.views[key] = s.newView(rows, f, criteria)
	}
	return s.views[key]
}

func (s *Server) newView(rows []*row, f filter, criteria []criterion) *view {
	v := &view{slices.DeleteFunc(rows, func(r *row) bool { return !f.match(r) }), comparison(criteria, s.options.NullsSmallest)}
	slices.SortFunc(v.rows, func(a, b *row) int { return cmp.Or(v.ties(a, b), bytes.Compare(a.id[:], b.id[:])) })
	return v
}

// page returns up to limit rows from an offset, and those that tie in an order
// that chance draws for this page.
func (v *view) page(offset, limit int, chance *rand.Rand) []*row {
	var page []*row
	end := min(offset+limit, len(v.rows))
	for i := offset; i < end; {
		first, last := i, i+1 // of the rows that tie with this one
		for first > 0 && v.ties(v.rows[first-1], v.rows[i]) == 0 {
			first--
		}
		for last < len(v.rows) && v.ties(v.rows[last], v.rows[i]) == 0 {
			last++
		}
		tied := slices.Clone(v.rows[first:last])
		chance.Shuffle(len(tied), func(i, j int) { tied[i], tied[j] = tied[j], tied[i] })
		page = append(page, tied[i-first:min(last, end)-first]...)
		i = last
	}
	return page
}

// A criterion is one value of the sorting parameter.
type criterion struct {
	property   string
	descending bool
}

// properties are those that the server sorts by. Polar also sorts by names and
// quantities, which no mirror can rely on.
func properties() []string { return []string{"created_at", "modified_at", "customer_id", "meter_id"} }

// comparison turns criteria into one comparison, which is 0 for ties.
func comparison(criteria []criterion, nullsSmallest bool) func(a, b *row) int {
	return func(a, b *row) int {
		for _, c := range criteria {
			order := compare(c.property, a, b, nullsSmallest)
			switch {
			case order != 0 && c.descending:
				return -order
			case order != 0:
				return order
			}
		}
		return 0
	}
}

// compare compares by one property as Postgres does.
func compare(property string, a, b *row, nullsSmallest bool) int {
	switch property {
	case "created_at":
		return a.created.Compare(b.created)
	case "customer_id":
		return bytes.Compare(a.customer.id[:], b.customer.id[:])
	case "meter_id":
		return bytes.Compare(a.meter.ID[:], b.meter.ID[:])
	}
	order := a.modified.Compare(b.modified) // null is the zero time, the smallest
	if !nullsSmallest && a.modified.IsZero() != b.modified.IsZero() {
		order = -order
	}
	return order
}
