package mirror

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
)

// A listedPage is one page of the list with what was asked for.
type listedPage struct {
	span
	*fetch.Listing
}

// list asks for one page of the organization's rows, within its filter.
func (w *worker) list(ctx context.Context, client *fetch.Client, s span, order []string) (listedPage, error) {
	return w.listWithin(ctx, client, w.org.Filter, s, order)
}

func (w *worker) listWithin(ctx context.Context, client *fetch.Client, filter Filter, s span, order []string) (listedPage, error) {
	listing, err := client.List(ctx, fetch.ListParams{
		OrganizationID:     []uuid.UUID{w.org.ID},
		CustomerID:         filter.CustomerIDs,
		ExternalCustomerID: filter.ExternalCustomerIDs,
		MeterID:            filter.MeterIDs,
		Page:               s.page(),
		Limit:              s.limit,
		Sorting:            order,
		Timeout:            w.pace.timeout(),
	})
	if err != nil {
		return listedPage{}, err
	}
	return listedPage{span: s, Listing: listing}, nil
}

// pages yields the pages from first on, each planned by next from the one before
// it, in that order, with several requests in flight: up to most, fewer while
// Polar is slow. It ends after the first error. Whoever stops early cancels the
// requests under way, and no goroutine outlives the loop.
func (w *worker) pages(ctx context.Context, client *fetch.Client, first span, next func(span) (span, bool), most int) iter.Seq2[listedPage, error] {
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
		span, more := first, true
		asked, yielded, inFlight := 0, 0, 0
		w.pace.restart()
		for {
			for more && inFlight < min(most, w.pace.concurrency()) && asked-yielded < ahead {
				s, turn := span, asked
				group.Go(func() {
					page, err := w.list(ctx, client, s, s.order())
					if err == nil {
						w.pace.observe(w.log, page)
					}
					arrived <- answer{turn, page, err}
				})
				asked, inFlight = asked+1, inFlight+1
				span, more = next(s)
			}
			if a, here := waiting[yielded]; here {
				delete(waiting, yielded)
				yielded++
				w.pace.yielded()
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

// provenPages reads the list until p is done, and yields each page that proves
// something. The first request is sent alone: a token that Polar has not seen for
// a while is held to few requests until it has been answered.
func (w *worker) provenPages(ctx context.Context, client *fetch.Client, p *proof) iter.Seq2[provenPage, error] {
	return func(yield func(provenPage, error) bool) {
		for !p.done {
			most := w.opts.PagesInFlight
			if p.searching() {
				most = 1
			}
			for page, err := range w.pages(ctx, client, p.next(), p.after, most) {
				if err != nil {
					yield(provenPage{}, err)
					return
				}
				before := *p
				verdict, err := p.take(page.span, page.Page)
				if err != nil {
					yield(provenPage{}, err)
					return
				}
				if verdict == accepted {
					w.rejectForeign(page.Page)
					if !yield(provenPage{page, before, *p}, nil) {
						return
					}
				}
				if before.searching() || !p.asPlanned(page.span) {
					break
				}
			}
		}
	}
}

// rejectForeign rejects rows that belong to another organization. Rejected rows keep
// their places within the page.
func (w *worker) rejectForeign(page *polar.Page) {
	if !w.foreign(page.CustomerMeters) {
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
		if !w.foreign([]polar.CustomerMeter{m}) {
			own = append(own, m)
			continue
		}
		rejected = append(rejected, polar.RejectedRow{
			Index: i, ID: m.ID, Key: m.Key(), HasKey: true,
			Raw:    fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw),
			Reason: fmt.Sprintf("belongs to organization %s, not to %s", m.Meter.OrganizationID, w.org.ID),
		})
	}
	page.CustomerMeters, page.Rejected = own, rejected
}

// foreign reports whether any of rows belongs to another organization.
func (w *worker) foreign(rows []polar.CustomerMeter) bool {
	for i := range rows {
		if rows[i].Meter.OrganizationID != w.org.ID || rows[i].Customer.OrganizationID != w.org.ID {
			return true
		}
	}
	return false
}
