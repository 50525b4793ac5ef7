package polarsim

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/btree"
)

const (
	// maxViews bounds the lists kept sorted at a time.
	maxViews = 24
	// maxMoved is how many rows one change may move before sorting anew is
	// cheaper than moving them.
	maxMoved = 2000
)

// A view is one filtered and sorted list, kept up to date by [Server.edit] if it
// is among the server's. Its rows are in a tree that finds them by their place,
// so that a page deep in a million rows costs no more than the first.
type view struct {
	key    string
	filter filter
	ties   func(a, b *row) int // 0 for rows that the order asked for leaves in any order
	rows   *btree.BTreeG[*row] // by id among those
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
	if len(f.customers) > 0 {
		var rows []*row
		for i, id := range f.customers {
			if c := s.customers[id]; c != nil && !slices.Contains(f.customers[:i], id) {
				rows = append(rows, c.rows...)
			}
		}
		return s.newView(f, criteria, rows)
	}
	key := fmt.Sprintf("%#v %v", f, criteria)
	i := slices.IndexFunc(s.views, func(v *view) bool { return v.key == key })
	if i < 0 {
		var rows []*row
		for _, o := range f.organizations {
			rows = slices.AppendSeq(rows, o.rows())
		}
		v := s.newView(f, criteria, rows)
		v.key = key
		i = min(len(s.views), maxViews-1)
		s.views = append(s.views[:i], v)
	}
	v := s.views[i]
	copy(s.views[1:i+1], s.views[:i]) // most recently used first
	s.views[0] = v
	return v
}

func (s *Server) newView(f filter, criteria []criterion, rows []*row) *view {
	v := &view{filter: f, ties: comparison(criteria, s.options.NullsSmallest)}
	rows = slices.DeleteFunc(rows, func(r *row) bool { return !f.match(r) })
	total := func(a, b *row) int { return cmp.Or(v.ties(a, b), bytes.Compare(a.id[:], b.id[:])) }
	slices.SortFunc(rows, total)
	v.rows = btree.NewBTreeGOptions(func(a, b *row) bool { return total(a, b) < 0 }, btree.Options{NoLocks: true})
	for _, r := range rows {
		v.rows.Load(r)
	}
	return v
}

// edit runs change, which may alter the given rows, or put them in or take them
// out, and nothing else that a filter or an order looks at, and moves them to
// their new places in every view. The server must be locked.
func (s *Server) edit(rows []*row, change func()) {
	if len(rows) > maxMoved {
		s.views = nil
	}
	for _, v := range s.views {
		for _, r := range rows {
			v.rows.Delete(r)
		}
	}
	change()
	for _, v := range s.views {
		for _, r := range rows {
			if s.rows[r.id] == r && v.filter.match(r) {
				v.rows.Set(r)
			}
		}
	}
}

// at returns the row at a place, counted from 0.
func (v *view) at(i int) *row {
	r, _ := v.rows.GetAt(i)
	return r
}

// page returns up to limit rows from an offset, and those that tie in an order
// that chance draws for this page.
func (v *view) page(offset, limit int, chance *rand.Rand) []*row {
	var page []*row
	end := min(offset+limit, v.rows.Len())
	for i := offset; i < end; {
		first, last := v.tied(i)
		place := permutation(last-first, chance)
		for ; i < min(last, end); i++ {
			page = append(page, v.at(first+place(i-first)))
		}
	}
	return page
}

// tied returns the stretch of rows that tie with the one at a place.
func (v *view) tied(i int) (first, end int) {
	r, first, end := v.at(i), i, i+1
	if i > 0 && v.ties(v.at(i-1), r) == 0 {
		first = sort.Search(i, func(i int) bool { return v.ties(v.at(i), r) >= 0 })
	}
	if end < v.rows.Len() && v.ties(v.at(end), r) == 0 {
		end += sort.Search(v.rows.Len()-end, func(i int) bool { return v.ties(v.at(end+i), r) > 0 })
	}
	return first, end
}

// permutation draws where each of n places goes. It needs no memory, so that a
// page out of a million ties costs as much as any.
func permutation(n int, chance *rand.Rand) func(i int) int {
	shift, factor := chance.IntN(n), 1
	for range 10 { // a factor that shares a divisor with n would not reach every place
		if f := 1 + chance.IntN(n); gcd(f, n) == 1 {
			factor = f
			break
		}
	}
	return func(i int) int { return (i*factor + shift) % n }
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// A criterion is one value of the sorting parameter.
type criterion struct {
	property   string
	descending bool
}

// properties are the sortable properties, in the order of Polar's enum.
func properties() []string {
	return []string{"created_at", "modified_at", "customer_id", "customer_name", "meter_id",
		"meter_name", "consumed_units", "credited_units", "balance"}
}

// comparison turns criteria into one comparison, which is 0 for ties.
func comparison(criteria []criterion, nullsSmallest bool) func(a, b *row) int {
	nulls := func(a, b bool) int { // by whether they are null
		switch {
		case a == b:
			return 0
		case a == nullsSmallest:
			return -1
		}
		return 1
	}
	var steps []func(a, b *row) int
	for _, c := range criteria {
		step := ascending(c.property, nulls)
		if c.descending {
			up := step
			step = func(a, b *row) int { return up(b, a) }
		}
		steps = append(steps, step)
	}
	return func(a, b *row) int {
		for _, step := range steps {
			if c := step(a, b); c != 0 {
				return c
			}
		}
		return 0
	}
}

// ascending compares by one property as Postgres does under the collation "C", and
// first whether it is null.
func ascending(property string, nulls func(a, b bool) int) func(a, b *row) int {
	switch property {
	case "created_at":
		return func(a, b *row) int { return a.created.Compare(b.created) }
	case "modified_at":
		return func(a, b *row) int {
			return cmp.Or(nulls(a.modified.IsZero(), b.modified.IsZero()), a.modified.Compare(b.modified))
		}
	case "customer_id":
		return func(a, b *row) int { return bytes.Compare(a.customer.id[:], b.customer.id[:]) }
	case "customer_name":
		return func(a, b *row) int {
			x, y := a.customer.load().name, b.customer.load().name
			if x == nil || y == nil {
				return nulls(x == nil, y == nil)
			}
			return strings.Compare(*x, *y)
		}
	case "meter_id":
		return func(a, b *row) int { return bytes.Compare(a.meter.ID[:], b.meter.ID[:]) }
	case "meter_name":
		return func(a, b *row) int { return strings.Compare(a.meter.Name, b.meter.Name) }
	case "consumed_units":
		return func(a, b *row) int { return compareNumbers(a.units.Consumed, b.units.Consumed) }
	case "credited_units":
		return func(a, b *row) int { return compareNumbers(a.units.Credited, b.units.Credited) }
	default: // balance
		return func(a, b *row) int { return compareNumbers(a.units.Balance, b.units.Balance) }
	}
}
