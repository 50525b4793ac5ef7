package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
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
	region *store.Region // of which it shows all rows; nil if that is not known
}

// A reader reads one organization's rows at Polar.
type reader struct {
	worker *worker
	client *fetch.Client // counts the requests of one run
}

func (r *reader) pageSize() int { return r.worker.mirror.opts.PageSize }

func (r *reader) pagesInFlight() int { return r.worker.mirror.opts.PagesInFlight }

// list asks for one page of the rows under filter. Rows of other organizations are
// among the rejected ones.
func (r *reader) list(ctx context.Context, filter Filter, s span, order []string) (listedPage, error) {
	listing, err := r.client.List(ctx, fetch.ListParams{
		OrganizationID:     []uuid.UUID{r.worker.org.ID},
		CustomerID:         filter.CustomerIDs,
		ExternalCustomerID: filter.ExternalCustomerIDs,
		MeterID:            filter.MeterIDs,
		Page:               s.page(),
		Limit:              s.limit,
		Sorting:            order,
		Timeout:            r.worker.pace.timeout(),
	})
	if err != nil {
		return listedPage{}, err
	}
	r.rejectForeign(listing.Page)
	return listedPage{request: request{s, filter}, Listing: listing}, nil
}

// pages yields the pages that plan asks for, in that order, with several requests in
// flight: up to most, fewer while Polar is slow. It ends after the first error. Whoever
// stops early cancels the requests under way, and no goroutine outlives the loop.
func (r *reader) pages(ctx context.Context, plan iter.Seq[request], most int) iter.Seq2[listedPage, error] {
	return func(yield func(listedPage, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()
		next, stop := iter.Pull(plan)
		defer stop()

		type answer struct {
			turn int
			page listedPage
			err  error
		}
		ahead := pagesAhead * most
		arrived := make(chan answer, ahead)
		waiting := make(map[int]answer, ahead) // by turn
		asked, yielded, inFlight := 0, 0, 0
		r.worker.pace.restart()
		for {
			for inFlight < min(most, r.worker.pace.concurrency()) && asked-yielded < ahead {
				q, more := next()
				if !more {
					break
				}
				turn := asked
				group.Go(func() {
					page, err := r.list(ctx, q.filter, q.span, q.order())
					if err == nil {
						r.worker.pace.observe(r.worker.log, page)
					}
					arrived <- answer{turn, page, err}
				})
				asked, inFlight = asked+1, inFlight+1
			}
			if a, here := waiting[yielded]; here {
				delete(waiting, yielded)
				yielded++
				r.worker.pace.yielded()
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

// get asks for rows by id, several at once. Those that Polar does not have are
// nil.
func (r *reader) get(ctx context.Context, ids []uuid.UUID) ([]*fetch.Single, error) {
	singles := make([]*fetch.Single, len(ids))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(r.pagesInFlight())
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
	foreign := func(m polar.CustomerMeter) bool {
		return m.Meter.OrganizationID != r.worker.org.ID || m.Customer.OrganizationID != r.worker.org.ID
	}
	if !slices.ContainsFunc(page.CustomerMeters, foreign) {
		return
	}
	var own []polar.CustomerMeter
	rejected := slices.Clone(page.Rejected)
	place := 0
	for _, m := range page.CustomerMeters {
		for slices.ContainsFunc(page.Rejected, func(row polar.RejectedRow) bool { return row.Index == place }) {
			place++
		}
		if !foreign(m) {
			own = append(own, m)
		} else {
			rejected = append(rejected, polar.RejectedRow{
				Index: place, ID: m.ID, Key: m.Key(), HasKey: true, CreatedAt: m.CreatedAt, ModifiedAt: &m.ModifiedAt,
				Raw:    fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw),
				Reason: fmt.Sprintf("belongs to organization %s, not to %s", m.Meter.OrganizationID, r.worker.org.ID),
			})
		}
		place++
	}
	slices.SortStableFunc(rejected, func(a, b polar.RejectedRow) int { return cmp.Compare(a.Index, b.Index) })
	page.CustomerMeters, page.Rejected = own, rejected
}
