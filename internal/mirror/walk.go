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
		judge := func(page listedPage, err error) (goOn bool) {
			if err == nil {
				page.region, err = p.take(page.span, page.Page)
			}
			if err != nil {
				yield(listedPage{}, err)
				return false
			}
			if page.region == nil {
				return true
			}
			page.region.Customers, page.region.Meters = filter.CustomerIDs, filter.MeterIDs
			return yield(page, nil)
		}
		if first != nil && !judge(*first, nil) {
			return
		}
		plan := func(yield func(request) bool) {
			for s, planned := p.next(), true; planned && yield(request{s, filter}); {
				s, planned = p.after(s)
			}
		}
		for !p.finished() {
			most := r.pagesInFlight()
			if p.searching() {
				most = 1
			}
			for page, err := range r.pages(ctx, plan, most) {
				searching := p.searching()
				if !judge(page, err) {
					return
				}
				if searching || !p.asPlanned(page.span) {
					break
				}
			}
		}
	}
}
