package mirror

import (
	"context"
	"iter"
	"sync"

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

// list asks for one page of the organization's rows.
func (w *worker) list(ctx context.Context, client *fetch.Client, s span, order []string) (fetched, error) {
	listing, err := client.List(ctx, fetch.ListParams{
		OrganizationID:     []uuid.UUID{w.org.ID},
		CustomerID:         w.org.Filter.CustomerIDs,
		ExternalCustomerID: w.org.Filter.ExternalCustomerIDs,
		MeterID:            w.org.Filter.MeterIDs,
		Page:               s.page(),
		Limit:              s.limit,
		Sorting:            order,
	})
	if err != nil {
		return fetched{}, err
	}
	return fetched{span: s, Listing: listing}, nil
}

// descend yields pages from first downward to offset 0, each overlapping the
// one above it by the offsets they were planned at, with up to width requests
// in flight. It ends after the first error. Whoever stops early cancels the
// requests under way, and no goroutine outlives the loop.
func (w *worker) descend(ctx context.Context, client *fetch.Client, first span, width int) iter.Seq2[fetched, error] {
	type result struct {
		page fetched
		err  error
	}
	return func(yield func(fetched, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()

		var flying []chan result
		for next, more := first, true; ; {
			for more && len(flying) < width {
				ch, s := make(chan result, 1), next
				group.Go(func() {
					page, err := w.list(ctx, client, s, walkOrder())
					ch <- result{page, err}
				})
				flying = append(flying, ch)
				if more = s.offset > 0; more {
					next = cover(s.offset, w.opts.PageSize)
				}
			}
			if len(flying) == 0 {
				return
			}
			r := <-flying[0]
			flying = flying[1:]
			if !yield(r.page, r.err) || r.err != nil {
				return
			}
		}
	}
}
