package polarsim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
)

// nine asks for a page in a total order.
const nine = "limit=9&sorting=created_at&sorting=customer_id&sorting=meter_id"

// both runs a test over a socket and in memory.
func both(t *testing.T, f func(t *testing.T, c *reader)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		f(t, read(rows(20)))
	})
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		c := read(rows(20))
		running := do[*Running](t)(c.server.Start())
		t.Cleanup(func() { running.Close() })
		c.client, c.base = &http.Client{Transport: &http.Transport{}}, running.URL
		f(t, c)
	})
}

// fetched is what a client sees of one request.
type fetched struct {
	Status int
	Body   int  // bytes that came
	Failed bool // no answer, or none to the end
}

// fetch reads a page that is the same each time.
func (c *reader) fetch(t testing.TB) fetched {
	t.Helper()
	response, err := c.client.Do(c.request(t, t.Context(), listPath+"?"+nine))
	if err != nil {
		return fetched{Failed: true}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fetched{Status: response.StatusCode, Body: len(body), Failed: err != nil}
}

func TestFaultsLookTheSameOverASocketAndInMemory(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *reader) {
		good := c.fetch(t)
		for fault, want := range map[Fault]fetched{
			NoFault:       {Status: 200, Body: good.Body},
			InternalError: {Status: 500, Body: 64},
			BadGateway:    {Status: 502, Body: 106},
			Unavailable:   {Status: 503},
			NotJSON:       {Status: 200, Body: 92},
			CutBody:       {Status: 200, Body: good.Body / 2, Failed: true},
			Dropped:       {Failed: true},
		} {
			c.server.FailWhen(always(fault))
			if got := c.fetch(t); got != want {
				t.Errorf("%q: got %+v, want %+v", fault, got, want)
			}
		}
		c.server.FailWhen(nil)
		if got := c.fetch(t); got != good || good.Failed || good.Status != 200 {
			t.Errorf("after the faults: %+v, before: %+v", got, good)
		}
	})
}

func TestSpoiltPagesKeepTheirSize(t *testing.T) {
	t.Parallel()
	c := read(rows(20))
	good := c.list(t, nine)
	spoilt := func(f Fault) listed {
		c.server.FailWhen(always(f))
		return c.list(t, nine)
	}
	if got := spoilt(WrongOrder); got.Items[0].ID != good.Items[8].ID || got.Items[8].ID != good.Items[0].ID {
		t.Error("the page in the wrong order is not the page reversed")
	}
	if got := spoilt(RepeatedRow); len(got.Items) != 9 || got.Items[4].ID != got.Items[5].ID {
		t.Errorf("a page with a repeated row has %d rows and repeats none", len(got.Items))
	}
	for _, f := range []Fault{EmptyPages, LostOrganization} {
		if got := spoilt(f); len(got.Items) != 0 || got.Pagination.TotalCount != 0 {
			t.Errorf("%s: shows %d rows of %d", f, len(got.Items), got.Pagination.TotalCount)
		}
	}
	known := listPath + good.Items[0].ID.String()
	for f, want := range map[Fault]int{NoFault: 200, LostOrganization: 404} {
		c.server.FailWhen(always(f))
		if got := c.do(t, known).StatusCode; got != want {
			t.Errorf("%q: get answers %d, want %d", f, got, want)
		}
	}
}

func TestRequestsAreCountedLoggedAndSpoiltByTheirNumber(t *testing.T) {
	t.Parallel()
	c := read(rows(20))
	c.fetch(t)
	c.server.ForgetRequests()
	c.server.FailWhen(func(n int, r *http.Request) Fault {
		if n == 2 && r.URL.Query().Get("limit") == "9" {
			return BadGateway
		}
		return NoFault
	})
	for range 3 {
		c.fetch(t)
	}
	for i, r := range c.server.Requests() {
		cost := Cost{Lists: 1, Statements: ListCost + 20*CountedRowCost}
		want := []Request{
			{Path: listPath, Query: nine, Status: 200, Cost: cost, At: r.At},
			{Path: listPath, Query: nine, Status: 502, At: r.At},
			{Path: listPath, Query: nine, Status: 200, Cost: cost, At: r.At},
		}[i]
		if r != want || r.At.IsZero() {
			t.Errorf("logged %+v, want %+v", r, want)
		}
	}
	if got := c.server.RequestCount(); got != 3 {
		t.Errorf("counted %d requests, want 3", got)
	}
}

func TestCancelledContextEndsALatentRequest(t *testing.T) {
	t.Parallel()
	o := rows(3)
	o.Latency = 1 << 62
	c := read(o)
	ctx, cancel := context.WithCancel(t.Context())
	c.server.Before(func(int, *http.Request) { cancel() })
	if _, err := c.client.Do(c.request(t, ctx, listPath)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
}
