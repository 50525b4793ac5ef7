package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
)

// checkTime bounds the first attempt of one of the doctor's requests, which may be
// followed by one that waits twice as long: somebody waits for the doctor, and Polar
// being away for a moment is worth knowing.
const checkTime = 5 * time.Second

// A seenOrganization is one that its token sees.
type seenOrganization struct {
	config.Organization
	rows   int
	start  time.Duration // what a page at the start of its list takes
	perRow time.Duration // what one takes more for each row before it
}

// checkPolar tries each organization's token.
func (d *doctor) checkPolar(ctx context.Context) []seenOrganization {
	cfg := *d.cfg
	cfg.Polar.Timeout = min(cfg.Polar.Timeout, checkTime)
	cfg.Polar.Retry.MaxElapsedTime = checkTime
	cfg.Polar.Retry.RetryConnectionErrors = false
	clients, err := d.clients(&cfg)
	if err != nil {
		d.bad(exitUsage, "%v", err)
		return nil
	}
	verdicts := make([]tokenVerdict, len(cfg.Organizations))
	var group errgroup.Group
	group.SetLimit(cfg.Sync.Concurrency)
	for i, o := range cfg.Organizations {
		group.Go(func() error {
			verdicts[i] = tryToken(ctx, clients[o.Name], o)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	var seen []seenOrganization
	for i, o := range cfg.Organizations {
		v := verdicts[i]
		d.tell(o, v)
		if v.err == nil && v.other == uuid.Nil {
			seen = append(seen, seenOrganization{o, v.rows, v.start, v.perRow})
		}
	}
	return seen
}

// A tokenVerdict is what one organization's token is good for.
type tokenVerdict struct {
	err    error
	rows   int           // customer meters it sees, within the filter
	other  uuid.UUID     // the organization it sees instead of the configured one; zero if none
	start  time.Duration // see seenOrganization
	perRow time.Duration
}

// manyRows is from how many rows on it matters how much slower deep pages are,
// so that it is worth a request to measure it.
const manyRows = 10_000

// tryToken asks for one row of the organization. If there is none, it asks what
// else the token sees: Polar answers alike for an empty organization and for one
// that the token can't see.
func tryToken(ctx context.Context, client *fetch.Client, o config.Organization) tokenVerdict {
	params := fetch.ListParams{
		CustomerID:         o.Filter.CustomerID,
		ExternalCustomerID: o.Filter.ExternalCustomerID,
		MeterID:            o.Filter.MeterID,
		Page:               1,
		Limit:              1,
	}
	if o.ID != uuid.Nil {
		params.OrganizationID = []uuid.UUID{o.ID}
	}
	listing, err := client.List(ctx, params)
	if err != nil {
		return tokenVerdict{err: err}
	}
	v := tokenVerdict{rows: listing.Page.TotalCount, start: listing.Elapsed, perRow: mirror.UsualPerRow}
	if v.rows >= manyRows {
		v.measureDepth(ctx, client, params)
	}
	if v.rows > 0 || o.ID == uuid.Nil {
		return v
	}
	anything, err := client.List(ctx, fetch.ListParams{Page: 1, Limit: 1})
	if err != nil {
		return tokenVerdict{err: err}
	}
	for _, m := range anything.Page.CustomerMeters {
		if m.Meter.OrganizationID != o.ID {
			v.other = m.Meter.OrganizationID
		}
	}
	return v
}

// measureDepth asks for the last row in the order of a walk. Should that fail,
// the estimate is made from what is usual at Polar.
func (v *tokenVerdict) measureDepth(ctx context.Context, client *fetch.Client, params fetch.ListParams) {
	params.Page, params.Sorting = v.rows, []string{"created_at"}
	deep, err := client.List(ctx, params)
	if err != nil {
		return
	}
	v.start = min(v.start, deep.Elapsed) // the first request also made the connection
	v.perRow = (deep.Elapsed - v.start) / time.Duration(v.rows)
}

func (d *doctor) tell(o config.Organization, v tokenVerdict) {
	var proxy *fetch.ProxyError
	switch {
	case errors.As(v.err, &proxy) && proxy.Refused():
		d.bad(exitUsage, "organization %s: %v", o.Name, v.err)
	case proxy != nil:
		d.bad(exitFailed, "organization %s: Polar at %s gave no answer: %v", o.Name, d.cfg.Polar.BaseURL, v.err)
	case errors.Is(v.err, fetch.ErrNoAnswer), errors.Is(v.err, fetch.ErrRateLimited):
		d.bad(exitFailed, "organization %s: Polar at %s gave no answer: check polar.base_url and the network (%v)", o.Name, d.cfg.Polar.BaseURL, v.err)
	case isStatusAbove500(v.err):
		d.bad(exitFailed, "organization %s: Polar is in trouble, try again later (%v)", o.Name, v.err)
	case v.err != nil:
		d.bad(exitUsage, "organization %s: %v", o.Name, v.err)
	case v.other != uuid.Nil:
		d.bad(exitUsage, "organization %s: its token cannot see organization %s but sees %s: correct organizations[].id, or use a token of that organization", o.Name, o.ID, v.other)
	case v.rows == 0 && o.ID == uuid.Nil:
		d.bad(exitUsage, "organization %s: its token sees no customer meters, so its id cannot be learned from them: set POLAR_ORGANIZATION_ID", o.Name)
	case v.rows == 0:
		d.doubt("organization %s: its token is valid and sees no customer meters: the organization has none, its id is another one, or the filter lets none in", o.Name)
	default:
		d.good("organization %s: its token is valid at %s and sees %s customer meters", o.Name, d.cfg.Polar.BaseURL, console.Count(int64(v.rows)))
	}
}

func isStatusAbove500(err error) bool {
	var status *fetch.StatusError
	return errors.As(err, &status) && status.Status >= 500
}

// estimate says how long a backfill takes: requests are what there is least of.
func (d *doctor) estimate(seen []seenOrganization) {
	if len(seen) == 0 {
		return
	}
	requests, took := backfillEstimate(seen, d.cfg.Polar, d.cfg.Sync.Concurrency)
	rows := 0
	for _, o := range seen {
		rows += o.rows
	}
	d.good("a backfill of %s customer meters takes about %s requests and %s",
		console.Count(int64(rows)), console.Count(int64(requests)), console.Span(max(took.Round(time.Second), time.Second)))
}

// backfillEstimate is how many requests a backfill takes and how long, if
// pages take what the two that were asked for took. A token paces all requests
// with it, and organizations wait for each other beyond so many at a time.
func backfillEstimate(seen []seenOrganization, polar config.Polar, atATime int) (requests int, took time.Duration) {
	perToken := map[[32]byte]time.Duration{}
	var longest, sum time.Duration
	for _, o := range seen {
		estimate := mirror.Estimate{
			InFlight: polar.Concurrency,
			Interval: fetch.NewLimiters(polar.RequestsPerMinute).Interval(),
			Start:    o.start,
			PerRow:   o.perRow,
		}
		requests += estimate.Requests(o.rows)
		t := estimate.Took(o.rows)
		sum += t
		key := [32]byte{}
		if token, err := o.AccessToken.Read(); err == nil {
			key = token.Sum()
		}
		perToken[key] += t
		longest = max(longest, perToken[key])
	}
	return requests, max(longest, sum/time.Duration(atATime))
}
