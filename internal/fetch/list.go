package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
)

// ListParams are the parameters of the list call, and how long to wait for it.
// Zero fields are left out; Polar's defaults are page 1, 10 items and the order
// -modified_at.
type ListParams struct {
	OrganizationID     []uuid.UUID // several values of one kind: any of them
	CustomerID         []uuid.UUID
	MeterID            []uuid.UUID
	ExternalCustomerID []string // the customers' ids in the seller's own system
	Page               int      // from 1
	Limit              int      // 1 to polar.MaxPageSize
	Sorting            []string // field names, "-" before a descending one, applied in order

	Timeout time.Duration // of the first attempt, if longer than Options.Timeout: deep pages are slow
}

// A Timing says when an answer came.
type Timing struct {
	ServerTime time.Time     // Polar's Date header, to the second; without one, Began
	Began      time.Time     // by our clock, when the request that was answered was sent
	Elapsed    time.Duration // from then to the end of the body
	Took       time.Duration // of all attempts and the waits between them, less the waits for the limiter
}

// A Listing is one page.
type Listing struct {
	Page *polar.Page
	Timing
}

// A Single is one customer meter.
type Single struct {
	CustomerMeter *polar.CustomerMeter // nil if Rejected is set
	Rejected      *polar.RejectedRow   // it is there, but can't be used
	Timing
}

const listPath = "/v1/customer-meters/" // without the slash at its end Polar redirects

// List returns one page of customer meters. A page past the end is empty, and
// so is every page of an organization that the token can't see. Errors are
// *StatusError, *RequestError, or the end of ctx.
func (c *Client) List(ctx context.Context, p ListParams) (*Listing, error) {
	query, err := p.query()
	if err != nil {
		return nil, fmt.Errorf("list customer meters: %w", err)
	}
	var page *polar.Page
	x, err := c.send(ctx, &call{
		path:    listPath,
		query:   query,
		page:    max(p.Page, 1),
		timeout: max(p.Timeout, c.opts.Timeout),
		decode: func(body []byte) (err error) {
			if page, err = c.decoder.Page(body); err != nil {
				return err
			}
			if p.Limit > 0 && page.Size() > p.Limit {
				// Offsets are multiples of the limit; with pages of another size
				// they would mean nothing.
				return &polar.ShapeError{Reason: fmt.Sprintf("%d items on a page of at most %d", page.Size(), p.Limit)}
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("list customer meters, page %d: %w", max(p.Page, 1), err)
	}
	return &Listing{Page: page, Timing: x}, nil
}

// Get returns one customer meter. ErrNotFound is Polar's own word that there is
// none of this id; any other 404 is ErrWrongAddress. Other errors are as List's.
func (c *Client) Get(ctx context.Context, id uuid.UUID) (*Single, error) {
	var got Single
	x, err := c.send(ctx, &call{
		path:    listPath + id.String(),
		timeout: c.opts.Timeout,
		decode: func(body []byte) (err error) {
			got.CustomerMeter, got.Rejected, err = polar.DecodeCustomerMeter(body, c.opts.Exclude...)
			if m := got.CustomerMeter; m != nil && m.ID != id {
				return &polar.ShapeError{Reason: "the customer meter " + m.ID.String() + ", which was not asked for"}
			}
			return err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("get customer meter %s: %w", id, err)
	}
	got.Timing = x
	return &got, nil
}

// query refuses what Polar would change silently: it answers a limit above 100
// with 100 items.
func (p ListParams) query() (url.Values, error) {
	if p.Page < 0 || p.Limit < 0 || p.Limit > polar.MaxPageSize {
		return nil, errors.New("page must not be negative, limit must lie between 1 and " + strconv.Itoa(polar.MaxPageSize))
	}
	q := url.Values{}
	for name, ids := range map[string][]uuid.UUID{
		"organization_id": p.OrganizationID, "customer_id": p.CustomerID, "meter_id": p.MeterID,
	} {
		for _, id := range ids {
			q.Add(name, id.String())
		}
	}
	for _, id := range p.ExternalCustomerID {
		q.Add("external_customer_id", id)
	}
	for _, s := range p.Sorting {
		q.Add("sorting", s)
	}
	if p.Page > 0 {
		q.Set("page", strconv.Itoa(p.Page))
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q, nil
}
