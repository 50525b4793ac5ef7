package polarsim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
)

// fetched is what a client sees of one request.
type fetched struct {
	Status int
	Body   int64 // bytes that came
	Failed bool  // no answer, or none to the end
}

// fetch reads the first page; it leaves as soon as leave is closed.
func (c *reader) fetch(t testing.TB, leave <-chan struct{}) fetched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-leave:
			cancel()
		case <-ctx.Done():
		}
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+listPath+"?limit=3", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.org.Token)
	response, err := c.client.Do(r)
	if err != nil {
		return fetched{Failed: true}
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	return fetched{Status: response.StatusCode, Body: n, Failed: err != nil}
}

// both runs a test over a socket and in memory.
func both(t *testing.T, f func(t *testing.T, c *reader)) {
	t.Helper()
	options := rows(20)
	options.HugeBodySize = 3 << 20
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		f(t, read(options))
	})
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		c := read(options)
		running, err := c.server.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { running.Close() })
		c.client, c.base = &http.Client{Transport: &http.Transport{}}, running.URL
		f(t, c)
	})
}

func TestFaultsLookTheSameOverASocketAndInMemory(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *reader) {
		good := c.fetch(t, nil)
		if good.Status != 200 || good.Failed {
			t.Fatalf("without a fault: %+v", good)
		}
		for fault, want := range map[Fault]fetched{
			TooManyRequests: {Status: 429},
			Unavailable:     {Status: 503},
			CutBody:         {Status: 200, Failed: true},
			HugeBody:        {Status: 200, Body: 3<<20 + int64(len(`{"items":[`))},
		} {
			c.server.FailNext(fault, 1)
			got := c.fetch(t, nil)
			if fault == CutBody {
				if got.Body == 0 || got.Body >= good.Body {
					t.Errorf("%v: %d of %d bytes came", fault, got.Body, good.Body)
				}
				got.Body = 0
			}
			if got != want {
				t.Errorf("%v: got %+v, want %+v", fault, got, want)
			}
		}
		for fault, status := range map[Fault]int{InternalError: 500, BadGateway: 502, NotJSON: 200, OtherJSON: 200} {
			c.server.FailNext(fault, 1)
			if got := c.fetch(t, nil); got.Status != status || got.Body == 0 || got.Failed {
				t.Errorf("%v: got %+v, want status %d", fault, got, status)
			}
		}
		if got := c.fetch(t, nil); got.Status != 200 || got.Failed {
			t.Errorf("after the faults: %+v", got)
		}
	})
}

func TestDroppedConnectionGivesNoAnswer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *reader) {
		c.server.FailNext(Dropped, -1) // a client may try again by itself
		if got := c.fetch(t, nil); !got.Failed || got.Status != 0 {
			t.Errorf("got %+v, want no answer", got)
		}
	})
}

func TestSilenceEndsWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *reader) {
		for _, fault := range []Fault{Hang, Stall} {
			leave, begun := make(chan struct{}), make(chan struct{})
			c.server.Before(func(int, *http.Request) { close(begun) })
			c.server.FailNext(fault, 1)
			done := make(chan fetched)
			go func() { done <- c.fetch(t, leave) }()
			<-begun
			c.server.Before(nil)
			close(leave)
			if got := <-done; !got.Failed {
				t.Errorf("%v: got %+v, want a request that failed", fault, got)
			}
		}
	})
}

func TestReleaseLetsGoOfSilentRequests(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *reader) {
		for _, fault := range []Fault{Hang, Stall} {
			c.server.FailNext(fault, 1)
			done := make(chan fetched)
			go func() { done <- c.fetch(t, nil) }()
			var got fetched
			for waiting := true; waiting; { // a release before the request hangs lets go of nothing
				select {
				case got = <-done:
					waiting = false
				default:
					c.server.Release()
				}
			}
			if got.Status != 200 || got.Failed {
				t.Errorf("%v, released: got %+v", fault, got)
			}
		}
	})
}

func TestSpoiltPagesKeepTheirSize(t *testing.T) {
	t.Parallel()
	c := read(rows(20))
	query := "limit=9&sorting=created_at&sorting=customer_id&sorting=meter_id"
	good := c.list(t, query)
	c.server.FailNext(WrongOrder, 1)
	if got := c.list(t, query); got.Items[0].ID != good.Items[8].ID || got.Items[8].ID != good.Items[0].ID {
		t.Error("the page in the wrong order is not the page reversed")
	}
	c.server.FailNext(RepeatedRow, 1)
	got := c.list(t, query)
	if len(got.Items) != 9 || got.Items[4].ID != got.Items[5].ID {
		t.Errorf("a page with a repeated row has %d rows and repeats none", len(got.Items))
	}
	c.server.FailNext(EmptyPages, 1)
	if got := c.list(t, query); len(got.Items) != 0 || got.Pagination.TotalCount != 0 {
		t.Errorf("an outage shows %d rows of %d", len(got.Items), got.Pagination.TotalCount)
	}
}

func TestFaultPlansAreFollowedAndLogged(t *testing.T) {
	t.Parallel()
	c := read(rows(20))
	c.server.FailRate(InternalError, 0.5)
	c.server.FailWhen(func(n int, _ *http.Request) Fault {
		if n == 2 {
			return BadGateway
		}
		return NoFault
	})
	c.server.FailNext(Unavailable, 1)
	seen := map[int]int{}
	for range 100 {
		seen[c.fetch(t, nil).Status]++
	}
	if seen[502] != 1 || seen[503] != 1 || seen[500] < 20 || seen[200] < 20 {
		t.Errorf("statuses %v, want one 502, one 503, and 500 as often as 200", seen)
	}
	log := c.server.Requests()
	if len(log) != 100 || log[1].Status != 502 || log[1].N != 2 || log[99].Path != listPath || log[99].Query != "limit=3" {
		t.Errorf("%d requests logged, the second as %+v", len(log), log[1])
	}
	if c.server.RequestCount() != 100 || c.server.RequestsTo(listPath) != 100 {
		t.Errorf("counted %d requests, %d to the list", c.server.RequestCount(), c.server.RequestsTo(listPath))
	}
}

func TestCancelledContextEndsALatentRequest(t *testing.T) {
	t.Parallel()
	o := rows(3)
	o.Latency = 1 << 62
	c := read(o)
	ctx, cancel := context.WithCancel(t.Context())
	c.server.Before(func(int, *http.Request) { cancel() })
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+listPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
}

func TestTokenLosesItsOrganizationInTheMiddle(t *testing.T) {
	t.Parallel()
	c := read(rows(20))
	known := listPath + c.server.Snapshot(c.org.ID)[0].ID.String()
	c.server.FailWhen(func(n int, _ *http.Request) Fault {
		if n >= 3 {
			return LostOrganization
		}
		return NoFault
	})
	for n, want := range []struct{ get, rows int }{{200, 20}, {404, 0}} {
		if got := c.do(t, known).StatusCode; got != want.get {
			t.Errorf("get, round %d: status %d, want %d", n, got, want.get)
		}
		got := c.list(t, "limit=100")
		if len(got.Items) != want.rows || got.Pagination.TotalCount != want.rows {
			t.Errorf("list, round %d: %d rows of %d, want %d", n, len(got.Items), got.Pagination.TotalCount, want.rows)
		}
	}
}

func TestChosenAnswersAreCutOff(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *reader) {
		c.server.FailWhen(func(_ int, r *http.Request) Fault {
			if r.URL.Query().Get("limit") == "3" {
				return CutBody
			}
			return NoFault
		})
		c.list(t, "limit=4")
		if got := c.fetch(t, nil); got.Status != http.StatusOK || !got.Failed || got.Body == 0 {
			t.Errorf("got %+v, want a 200 that breaks off", got)
		}
	})
}
