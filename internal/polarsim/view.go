package polarsim

import (
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	// maxViews bounds the lists kept sorted at a time.
	maxViews = 24
	// maxPatched is how many rows one change may move before sorting anew is
	// cheaper than moving them.
	maxPatched = 2000
)

// A view is one filtered and sorted list, kept up to date by [Server.edit] if it
// is among the server's.
type view struct {
	key     string
	filter  filter
	ties    func(a, b *row) int
	ordered *ordered
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
	if r.unlisted() || !slices.Contains(f.organizations, r.meter.org) {
		return false
	}
	if len(f.customers) > 0 && !slices.Contains(f.customers, r.customer.id) {
		return false
	}
	if len(f.external) > 0 {
		r.customer.load()
		if r.customer.extID == nil || !slices.Contains(f.external, *r.customer.extID) {
			return false
		}
	}
	// Archived meters are listed only to those who name them.
	if len(f.meters) > 0 {
		return slices.Contains(f.meters, r.meter.id)
	}
	return !r.meter.archived()
}

func (f *filter) key(criteria []criterion) string {
	var b strings.Builder
	for _, o := range f.organizations {
		b.Write(o.ID[:])
	}
	for _, ids := range [][]uuid.UUID{f.customers, f.meters} {
		b.WriteByte('|')
		for _, id := range ids {
			b.Write(id[:])
		}
	}
	for _, e := range f.external {
		b.WriteString(strconv.Quote(e))
	}
	for _, c := range criteria {
		b.WriteByte(',')
		if c.descending {
			b.WriteByte('-')
		}
		b.WriteString(c.property)
	}
	return b.String()
}

// view returns the list for a filter and order, sorting it if it is not at
// hand. Lists of chosen customers are short and many, so they are made for each
// request and not kept. The server must be locked.
func (s *Server) view(f filter, criteria []criterion) *view {
	if len(f.customers) > 0 {
		return s.newView("", f, criteria)
	}
	key := f.key(criteria)
	if i := slices.IndexFunc(s.views, func(v *view) bool { return v.key == key }); i >= 0 {
		v := s.views[i]
		copy(s.views[1:i+1], s.views[:i]) // most recently used first
		s.views[0] = v
		return v
	}
	v := s.newView(key, f, criteria)
	s.views = slices.Insert(s.views, 0, v)
	if len(s.views) > maxViews {
		s.views[maxViews] = nil
		s.views = s.views[:maxViews]
	}
	return v
}

func (s *Server) newView(key string, f filter, criteria []criterion) *view {
	v := &view{key: key, filter: f, ties: comparison(criteria, s.options.NullsSmallest)}
	var rows []*row
	for _, some := range s.candidates(&f) {
		for _, r := range some {
			if f.match(r) {
				rows = append(rows, r)
			}
		}
	}
	v.ordered = newOrdered(rows, total(v.ties))
	return v
}

// candidates returns all rows that can match a filter, none of them twice, and
// few others: those of the customers or of the meters that it names.
func (s *Server) candidates(f *filter) [][]*row {
	var all [][]*row
	switch {
	case len(f.customers) > 0:
		for i, id := range f.customers {
			if c := s.customers[id]; c != nil && !slices.Contains(f.customers[:i], id) {
				all = append(all, c.rows)
			}
		}
		for _, c := range s.rawCustomers {
			all = append(all, c.rows)
		}
	case len(f.meters) > 0:
		for i, id := range f.meters {
			if m := s.meters[id]; m != nil && !slices.Contains(f.meters[:i], id) {
				all = append(all, m.rows)
			}
		}
		for _, m := range s.rawMeters {
			all = append(all, m.rows)
		}
	default:
		for _, o := range f.organizations {
			all = append(all, o.rows)
		}
	}
	return all
}

// edit runs change, which may alter the given rows and nothing else that a
// filter or an order looks at, and moves them to their new places in every
// view. The server must be locked.
func (s *Server) edit(rows []*row, change func()) {
	if len(rows) > maxPatched {
		s.views = nil
	}
	for _, v := range s.views {
		for _, r := range rows {
			if r.place >= 0 && v.filter.match(r) {
				v.ordered.remove(r)
			}
		}
	}
	change()
	for _, v := range s.views {
		for _, r := range rows {
			if r.place >= 0 && v.filter.match(r) {
				v.ordered.insert(r)
			}
		}
	}
}
