package mirror

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
)

// walkOrder is total, and a row never changes its place in it.
// (customer_id, meter_id) is unique at Polar.
func walkOrder() []string { return []string{"created_at", "customer_id", "meter_id"} }

// A fetched is one page with what was asked for.
type fetched struct {
	span
	*fetch.Listing
}

// list asks for one page of the organization's rows, within its filter.
func (w *worker) list(ctx context.Context, client *fetch.Client, s span, order []string) (fetched, error) {
	return w.listWithin(ctx, client, w.org.Filter, s, order)
}

func (w *worker) listWithin(ctx context.Context, client *fetch.Client, filter Filter, s span, order []string) (fetched, error) {
	listing, err := client.List(ctx, fetch.ListParams{
		OrganizationID:     []uuid.UUID{w.org.ID},
		CustomerID:         filter.CustomerIDs,
		ExternalCustomerID: filter.ExternalCustomerIDs,
		MeterID:            filter.MeterIDs,
		Page:               s.page(),
		Limit:              s.limit,
		Sorting:            order,
		Timeout:            w.tempo.latency.timeout(s.offset),
	})
	if err != nil {
		return fetched{}, err
	}
	return fetched{span: s, Listing: listing}, nil
}

// listWalked is list for pages of a walk, whose order all have the same cost:
// they are measured.
func (w *worker) listWalked(ctx context.Context, client *fetch.Client, s span) (fetched, error) {
	page, err := w.list(ctx, client, s, walkOrder())
	if err == nil {
		w.pageCame(page)
	}
	return page, err
}

// descend yields pages from first downward to offset 0, each overlapping the
// one above it by the offsets they were planned at, with up to most requests in
// flight (fewer while Polar is slow, see width). It ends after the first error.
// Whoever stops early cancels the requests under way, and no goroutine outlives
// the loop.
func (w *worker) descend(ctx context.Context, client *fetch.Client, first span, most int) iter.Seq2[fetched, error] {
	return func(yield func(fetched, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()

		w.tempo.came = time.Time{}
		ahead := aheadFactor * most
		arrived := make(chan answered, ahead)
		waiting := make(map[int]answered, ahead) // by turn
		next, more := first, true
		asked, taken, flying := 0, 0, 0
		for {
			for more && flying < min(most, w.tempo.width.current()) && asked-taken < ahead {
				s, turn := next, asked
				group.Go(func() {
					page, err := w.listWalked(ctx, client, s)
					arrived <- answered{turn, page, err}
				})
				asked, flying = asked+1, flying+1
				if more = s.offset > 0; more {
					next = cover(s.offset, w.opts.PageSize)
				}
			}
			a, here := waiting[taken]
			switch {
			case here:
				delete(waiting, taken)
				taken++
				if a.err != nil {
					yield(a.page, a.err)
					return
				}
				w.pageTaken(a.page.offset)
				if !yield(a.page, nil) {
					return
				}
				w.pageDone()
			case flying == 0:
				return
			default:
				came := <-arrived
				flying--
				waiting[came.turn] = came
			}
		}
	}
}

// aheadFactor is how many times as many pages as may be in flight are asked for
// before the next in turn has come: latencies scatter, and behind a slow page
// the others must go on. With 1 and a scatter of a half, a walk of 100,000 rows
// that the limiter should pace took a tenth longer, one of 1,000,000 two fifths.
const aheadFactor = 2

// An answered is what came of one of the requests of a descent.
type answered struct {
	turn int
	page fetched
	err  error
}
