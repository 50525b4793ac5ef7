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
		plan := func(yield func(request) bool) {
			for s, planned := p.next(), true; planned && yield(request{s, filter}); {
				s, planned = p.after(s)
			}
		}
		for given := first != nil; !p.finished(); given = false {
			pages := func(yield func(listedPage, error) bool) { yield(*first, nil) }
			if !given {
				most := r.pagesInFlight()
				if p.searching() {
					most = 1
				}
				pages = r.pages(ctx, plan, most)
			}
			for page, err := range pages {
				searching := p.searching()
				if err == nil {
					page.region, err = p.take(page.span, page.Page)
				}
				if err != nil {
					yield(listedPage{}, err)
					return
				}
				if page.region != nil {
					page.region.Customers, page.region.Meters = filter.CustomerIDs, filter.MeterIDs
					if !yield(page, nil) {
						return
					}
				}
				if searching || !p.asPlanned(page.span) {
					break
				}
			}
		}
	}
}
