package polarsim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestCostIsThatOfSkippedAndCountedRows(t *testing.T) {
	t.Parallel()
	c := read(rows(1000))
	all := c.server.Snapshot(c.org.ID)
	ofCustomer := c.list(t, "limit=1&customer_id="+all[0].CustomerID.String()).Pagination.TotalCount
	for name, step := range map[string]struct {
		path string
		want Cost
	}{
		"first page":      {listPath + "?limit=100", Cost{Lists: 1, Statements: ListCost + 1000*CountedRowCost}},
		"deep page":       {listPath + "?limit=100&page=8", Cost{Lists: 1, SkippedRows: 700, Statements: ListCost + 700*SkippedRowCost + 1000*CountedRowCost}},
		"beyond the end":  {listPath + "?limit=100&page=99", Cost{Lists: 1, SkippedRows: 1000, Statements: ListCost + 1000*SkippedRowCost + 1000*CountedRowCost}},
		"of one customer": {listPath + "?customer_id=" + all[0].CustomerID.String(), Cost{Lists: 1, Statements: ListCost + time.Duration(ofCustomer)*CountedRowCost}},
		"get":             {listPath + all[0].ID.String(), Cost{Gets: 1}},
		"get of nothing":  {listPath + uuid.NewString(), Cost{Gets: 1}},
		"wrong request":   {listPath + "?page=0", Cost{}},
	} {
		c.server.ForgetRequests()
		c.do(t, step.path)
		if diff := cmp.Diff(step.want, c.server.Cost()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	c.server.ForgetRequests()
	c.server.FailWhen(always(Unavailable))
	c.do(t, listPath)
	if got := c.server.Cost(); got != (Cost{}) {
		t.Errorf("a request that did not arrive cost %+v", got)
	}
}

func TestCostOfAWalkAddsUp(t *testing.T) {
	t.Parallel()
	c := read(rows(250))
	c.walk(t, 100, "created_at")
	want := Cost{Lists: 4, SkippedRows: 100 + 200 + 250,
		Statements: 4*ListCost + 550*SkippedRowCost + 4*250*CountedRowCost}
	if diff := cmp.Diff(want, c.server.Cost()); diff != "" {
		t.Errorf("a walk (-want +got):\n%s", diff)
	}
}

func TestCostIsWaitedForOnlyAsFarAsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole := ListCost + 7*SkippedRowCost + 10*CountedRowCost
		for scale, want := range map[float64]time.Duration{0: 0, 1: whole, 0.5: whole / 2} {
			o := rows(10)
			o.CostScale = scale
			c := read(o)
			begun := time.Now()
			c.list(t, "limit=7&page=2")
			if took := time.Since(begun); took != want {
				t.Errorf("scale %v: took %v, want %v", scale, took, want)
			}
		}
	})
}

// TestCountIsOlderThanItsPage by the time that counting takes.
func TestCountIsOlderThanItsPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rows(10)
		o.CostScale = 1e6
		c := read(o)
		go func() {
			time.Sleep(6 * time.Second) // the count takes seven
			do[Row](t)(c.server.AddCustomerMeter(c.org.ID, NewCustomerMeter{}))
		}()
		if page := c.list(t, "limit=100"); len(page.Items) != 11 || page.Pagination.TotalCount != 10 {
			t.Errorf("a page of everything has %d rows and counts %d, want 11 and 10", len(page.Items), page.Pagination.TotalCount)
		}
	})
}
