package mirror

import (
	"context"
	"iter"
)

// provenPages reads the list under filter until p is finished, and yields each page
// that proves something new, with the region that it proves. first, if it is not nil,
// is the page that p asks for first.
//
// Pages overlap, so no row that exists throughout can hide between two of them
// (see proof).
func (r *reader) provenPages(ctx context.Context, filter Filter, p *proof, first *listedPage) iter.Seq2[listedPage, error] {
	return func(yield func(listedPage, error) bool) {
		// take yields the page if it proves something, and reports whether to go on,
		// and whether with the pages planned after it.
		take := func(page listedPage, err error) (more, asPlanned bool) {
			searching := p.searching()
			if err == nil {
				page.region, err = p.take(page.span, page.Page)
			}
			if err != nil {
				yield(listedPage{}, err)
				return false, false
			}
			if page.region != nil {
				page.region.Customers, page.region.Meters = filter.CustomerIDs, filter.MeterIDs
				if !yield(page, nil) {
					return false, false
				}
			}
			return !p.finished(), !searching && p.asPlanned(page.span)
		}
		if first != nil {
			if more, _ := take(*first, nil); !more {
				return
			}
		}
		after := func(q request) (request, bool) {
			s, planned := p.after(q.span)
			return request{s, filter}, planned
		}
		for !p.finished() {
			most := r.pagesInFlight()
			if p.searching() {
				most = 1
			}
			for page, err := range r.pages(ctx, request{p.next(), filter}, after, most) {
				more, asPlanned := take(page, err)
				if !more {
					return
				}
				if !asPlanned {
					break
				}
			}
		}
	}
}
