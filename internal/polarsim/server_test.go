package polarsim

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestPagesPastTheEndAreEmptyWithTrueCounts(t *testing.T) {
	t.Parallel()
	c := read(rows(205))
	for query, want := range map[string][3]int{ // items, total_count, max_page
		"":                             {10, 205, 21},
		"limit=100":                    {100, 205, 3},
		"limit=4000":                   {100, 205, 3},
		"limit=100&page=3":             {5, 205, 3},
		"limit=100&page=4":             {0, 205, 3},
		"limit=100&page=1&page=3":      {5, 205, 3},
		"limit=1&page=205":             {1, 205, 205},
		"page=99999999999999999999999": {0, 205, 21},
		"external_customer_id=nobody":  {0, 0, 0},
	} {
		got := c.list(t, query)
		if diff := cmp.Diff(want, [3]int{len(got.Items), got.Pagination.TotalCount, got.Pagination.MaxPage}); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", query, diff)
		}
	}
}

func TestFiltersAreAlternativesWithinAndConditionsAcross(t *testing.T) {
	t.Parallel()
	c := read(rows(300))
	all := c.server.Snapshot(c.org.ID)
	a, b := all[0], all[len(all)-1]
	query := "limit=100&customer_id=" + a.CustomerID.String() + "&customer_id=" + b.CustomerID.String() +
		"&meter_id=" + a.MeterID.String()
	want := 0
	for _, r := range all {
		if (r.CustomerID == a.CustomerID || r.CustomerID == b.CustomerID) && r.MeterID == a.MeterID {
			want++
		}
	}
	if got := c.list(t, query).Pagination.TotalCount; got != want || want == 0 {
		t.Errorf("filtered list has %d rows, want %d", got, want)
	}
	for _, customer := range c.server.Customers(c.org.ID) {
		if customer.ExternalID != nil {
			got := c.list(t, "external_customer_id="+*customer.ExternalID)
			if want := c.list(t, "customer_id="+customer.ID.String()); got.Pagination != want.Pagination {
				t.Errorf("by external id %v, by id %v", got.Pagination, want.Pagination)
			}
			return
		}
	}
	t.Error("no seeded customer has an external id")
}

func TestUnknownPathsAndMethodsAreNotServed(t *testing.T) {
	t.Parallel()
	c := read(rows(3))
	for path, want := range map[string]int{
		"/": 404, "/v1/": 404, "/v1/customers/": 404, "/v1/customer-meters/a/b": 404, "/v1/customer-meters": 404,
	} {
		if got := c.do(t, path).StatusCode; got != want {
			t.Errorf("GET %s: status %d, want %d", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, listPath, nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("POST: status %d, want 404", w.Code)
	}
}

func TestQuotaAnswersRetryAfterUntilTheMinuteIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rows(3)
		o.RequestsPerMinute = 2
		c := read(o)
		c.list(t, "")
		time.Sleep(50*time.Second + time.Millisecond)
		c.list(t, "")
		refused := c.do(t, listPath)
		body, err := io.ReadAll(refused.Body)
		if err != nil {
			t.Fatal(err)
		}
		if refused.StatusCode != http.StatusTooManyRequests || len(body) > 0 {
			t.Fatalf("third request: status %d, body %q, want an empty 429", refused.StatusCode, body)
		}
		wait, err := strconv.Atoi(refused.Header.Get("Retry-After"))
		if err != nil || wait != 10 {
			t.Fatalf("Retry-After is %q, want 10", refused.Header.Get("Retry-After"))
		}
		time.Sleep(time.Duration(wait) * time.Second)
		c.list(t, "")
	})
}

func TestColdTokenIsHeldToItsOwnQuotaUntilTheFirstAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rows(3)
		o.ColdRequestsPerMinute, o.Latency = 1, time.Second
		c := read(o)
		sideBySide := func() map[int]int {
			statuses := make(chan int)
			for range 4 {
				go func() { statuses <- c.fetch(t).Status }()
			}
			seen := map[int]int{}
			for range 4 {
				seen[<-statuses]++
			}
			return seen
		}
		cold, warm := map[int]int{200: 1, 429: 3}, map[int]int{200: 4}
		for _, want := range []map[int]int{cold, warm} {
			if diff := cmp.Diff(want, sideBySide()); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
		}
		time.Sleep(coldAfter)
		if diff := cmp.Diff(cold, sideBySide()); diff != "" {
			t.Errorf("statuses after five quiet minutes (-want +got):\n%s", diff)
		}
	})
}

func TestLatencyGrowsWithTheOffsetAndTheAnswerIsAsOldAsTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rows(250)
		o.Latency, o.CostScale = time.Second, 100
		c := read(o)
		begun := time.Now()
		go func() {
			time.Sleep(500 * time.Millisecond) // while the page is on its way
			c.server.DeleteCustomerMeter(c.server.Snapshot(c.org.ID)[0].ID)
		}()
		page := c.list(t, "limit=100&page=3")
		if took := time.Since(begun); took != 1357500*time.Microsecond {
			t.Errorf("page 3 took %v, want 1.3575s", took)
		}
		if page.Pagination.TotalCount != 250 {
			t.Errorf("counted %d rows, want the 250 that were there when it began", page.Pagination.TotalCount)
		}
	})
}

func TestSameOptionsGiveTheSameData(t *testing.T) {
	t.Parallel()
	o := rows(400)
	o.Epoch = time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	a, b := New(o), New(o)
	org := a.Organizations()[0].ID
	if diff := cmp.Diff(a.Snapshot(org), b.Snapshot(org)); diff != "" {
		t.Errorf("two servers differ:\n%s", diff)
	}
	o.Seed++
	if other := New(o).Organizations()[0]; other.ID == org {
		t.Error("another seed gave the same organization")
	}
}

func TestRowsAreOfRealisticSizeAndShape(t *testing.T) {
	t.Parallel()
	c := read(rows(3000))
	all := c.server.Snapshot(c.org.ID)
	bytes, nulls, negative, odd := 0, 0, 0, 0
	ties := map[time.Time]int{}
	for _, r := range all {
		bytes += len(r.JSON)
		ties[r.CreatedAt]++
		if r.ModifiedAt.IsZero() {
			nulls++
		}
		if r.Units.Balance[0] == '-' {
			negative++
		}
		if number(r.Units.Credited).Cmp(number("4611686018427387904")) > 0 {
			odd++
		}
	}
	if size := bytes / len(all); size < 1300 || size > 1700 {
		t.Errorf("rows have %d bytes on average, want 1300 to 1700", size)
	}
	if len(ties) > 2*len(all)/3 {
		t.Errorf("%d rows have %d different created_at, want many ties", len(all), len(ties))
	}
	if nulls < 600 || negative < 300 || odd == 0 {
		t.Errorf("%d without modified_at, %d negative balances, %d huge credits", nulls, negative, odd)
	}
}

func TestUnknownIDsAreErrors(t *testing.T) {
	t.Parallel()
	s := New(rows(3))
	nobody := uuid.New()
	if _, err := s.Consume(nobody, "1"); err == nil {
		t.Error("consumed on a row that is not there")
	}
	if _, err := s.AddCustomerMeter(nobody, NewCustomerMeter{}); err == nil {
		t.Error("added to an organization that is not there")
	}
	row := s.Snapshot(s.Organizations()[0].ID)[0]
	if _, err := s.AddCustomerMeter(row.OrganizationID, NewCustomerMeter{CustomerID: row.CustomerID, MeterID: row.MeterID}); err == nil {
		t.Error("added a second row for one customer and meter")
	}
}

// TestPagesAreAtomicSnapshots holds count and rows of pages against each other
// while rows come and go.
func TestPagesAreAtomicSnapshots(t *testing.T) {
	t.Parallel()
	c := read(rows(40))
	stop := make(chan struct{})
	var changing sync.WaitGroup
	for worker := range uint64(2) {
		changing.Go(func() {
			chance := rand.New(rand.NewPCG(worker, 0))
			for {
				select {
				case <-stop:
					return
				default:
				}
				all := c.server.Snapshot(c.org.ID)
				switch row := pick(chance, all); {
				case len(all) > 80 || len(all) > 20 && chance.IntN(2) == 0:
					c.server.DeleteCustomerMeter(row.ID) // the other worker may be quicker
				case chance.IntN(4) == 0:
					do[int](t)(c.server.changeMeter(row.MeterID, flap))
				default:
					do[Row](t)(c.server.AddCustomerMeter(c.org.ID, NewCustomerMeter{}))
				}
			}
		})
	}
	for i := range 300 {
		order := properties()[i%len(properties())]
		page := c.list(t, "limit=100&sorting="+order)
		if len(page.Items) != page.Pagination.TotalCount {
			t.Errorf("a page of everything has %d rows and counts %d", len(page.Items), page.Pagination.TotalCount)
		}
	}
	close(stop)
	changing.Wait()
}
