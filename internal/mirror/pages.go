package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
)

// A request asks for one page of the rows under a filter.
type request struct {
	span
	filter Filter
}

// A listedPage is one page of the list with what was asked for.
type listedPage struct {
	request
	*fetch.Listing
}

// checkOrder returns an [*OrderError] unless the page is in the order asked for, on
// which everything rests.
func (p *listedPage) checkOrder() error {
	if err := p.Page.CheckOrder(p.newestFirst); err != nil {
		return &OrderError{Offset: p.offset, Err: err}
	}
	return nil
}

// A reader reads one organization's rows at Polar.
type reader struct {
	org    Organization
	client *fetch.Client // counts the requests of one run
	pace   *pace
	opts   *Options
	log    *zap.Logger
}

// list asks for one page of the rows under filter.
func (r *reader) list(ctx context.Context, filter Filter, s span, order []string) (listedPage, error) {
	listing, err := r.client.List(ctx, fetch.ListParams{
		OrganizationID:     []uuid.UUID{r.org.ID},
		CustomerID:         filter.CustomerIDs,
		ExternalCustomerID: filter.ExternalCustomerIDs,
		MeterID:            filter.MeterIDs,
		Page:               s.page(),
		Limit:              s.limit,
		Sorting:            order,
		Timeout:            r.pace.timeout(),
	})
	if err != nil {
		return listedPage{}, err
	}
	return listedPage{request{s, filter}, listing}, nil
}

// pages yields the pages from first on, each planned by next from the one before
// it, in that order, with several requests in flight: up to most, fewer while
// Polar is slow. It ends after the first error. Whoever stops early cancels the
// requests under way, and no goroutine outlives the loop.
func (r *reader) pages(ctx context.Context, first request, next func(request) (request, bool), most int) iter.Seq2[listedPage, error] {
	return func(yield func(listedPage, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()

		type answer struct {
			turn int
			page listedPage
			err  error
		}
		ahead := pagesAhead * most
		arrived := make(chan answer, ahead)
		waiting := make(map[int]answer, ahead) // by turn
		planned, more := first, true
		asked, yielded, inFlight := 0, 0, 0
		r.pace.restart()
		for {
			for more && inFlight < min(most, r.pace.concurrency()) && asked-yielded < ahead {
				q, turn := planned, asked
				group.Go(func() {
					page, err := r.list(ctx, q.filter, q.span, q.order())
					if err == nil {
						r.pace.observe(r.log, page)
					}
					arrived <- answer{turn, page, err}
				})
				asked, inFlight = asked+1, inFlight+1
				planned, more = next(q)
			}
			if a, here := waiting[yielded]; here {
				delete(waiting, yielded)
				yielded++
				r.pace.yielded()
				if !yield(a.page, a.err) || a.err != nil {
					return
				}
				continue
			}
			if inFlight == 0 {
				return
			}
			a := <-arrived
			inFlight--
			waiting[a.turn] = a
		}
	}
}

// pagesAhead is how many times as many pages as may be in flight are asked for
// before the next in turn has come: latencies scatter, and behind a slow page
// the others must go on. With 1 and a scatter of a half, a walk of 100,000 rows
// that the limiter should pace took a tenth longer, one of 1,000,000 two fifths.
const pagesAhead = 2

// A provenPage is a page that was accepted, and the proof before and after it.
type provenPage struct {
	listedPage
	before, after proof
}

// provenPages reads the list under filter until p is done, and yields each page
// that proves something. first, if it is not nil, is the page that p asks for first.
func (r *reader) provenPages(ctx context.Context, filter Filter, p *proof, first *listedPage) iter.Seq2[provenPage, error] {
	return func(yield func(provenPage, error) bool) {
		// take yields the page if it proves something, and reports whether to go on
		// with the pages planned after it.
		take := func(page listedPage, err error) (more, asPlanned bool) {
			if err != nil {
				return yield(provenPage{}, err) && false, false
			}
			before := *p
			verdict, err := p.take(page.span, page.Page)
			if err != nil {
				return yield(provenPage{}, err) && false, false
			}
			more = true
			if verdict == accepted {
				r.rejectForeign(page.Page)
				more = yield(provenPage{page, before, *p}, nil)
			}
			return more, !before.searching() && p.asPlanned(page.span)
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
		for !p.done {
			most := r.opts.PagesInFlight
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

// get asks for rows by id, several at once. Those that Polar does not have are
// nil.
func (r *reader) get(ctx context.Context, ids []uuid.UUID) ([]*fetch.Single, error) {
	singles := make([]*fetch.Single, len(ids))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(r.opts.PagesInFlight)
	for i, id := range ids {
		group.Go(func() error {
			single, err := r.client.Get(groupCtx, id)
			if err != nil && !errors.Is(err, fetch.ErrNotFound) {
				return err
			}
			singles[i] = single
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return singles, nil
}

// rejectForeign rejects rows that belong to another organization. Rejected rows keep
// their places within the page.
func (r *reader) rejectForeign(page *polar.Page) {
	if !r.foreign(page.CustomerMeters) {
		return
	}
	var own []polar.CustomerMeter
	var rejected []polar.RejectedRow
	usable, unusable := page.CustomerMeters, page.Rejected
	for i := range page.Size() {
		if len(unusable) > 0 && (unusable[0].Index == i || len(usable) == 0) {
			rejected, unusable = append(rejected, unusable[0]), unusable[1:]
			continue
		}
		m := usable[0]
		usable = usable[1:]
		if !r.foreign([]polar.CustomerMeter{m}) {
			own = append(own, m)
			continue
		}
		rejected = append(rejected, polar.RejectedRow{
			Index: i, ID: m.ID, Key: m.Key(), HasKey: true,
			Raw:    fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw),
			Reason: fmt.Sprintf("belongs to organization %s, not to %s", m.Meter.OrganizationID, r.org.ID),
		})
	}
	page.CustomerMeters, page.Rejected = own, rejected
}

// foreign reports whether any of rows belongs to another organization.
func (r *reader) foreign(rows []polar.CustomerMeter) bool {
	for i := range rows {
		if rows[i].Meter.OrganizationID != r.org.ID || rows[i].Customer.OrganizationID != r.org.ID {
			return true
		}
	}
	return false
}
