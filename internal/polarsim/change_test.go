package polarsim

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// lists reports whether the list call shows a row, without a filter and under
// that of its customer and of its meter.
func (c *reader) lists(t testing.TB, r Row) [3]bool {
	t.Helper()
	var shown [3]bool
	for i, filter := range []url.Values{{}, {"customer_id": {r.CustomerID.String()}}, {"meter_id": {r.MeterID.String()}}} {
		filter.Set("limit", "100")
		shown[i] = slices.Contains(c.list(t, filter.Encode()).ids(), r.ID)
	}
	return shown
}

// neverModified is an organization in which nothing happened since yesterday.
func neverModified() Options {
	return Options{Epoch: time.Now().Add(-24 * time.Hour), Organizations: []Organization{{Name: "a", CustomerMeters: 40, NeverModified: 1}}}
}

func TestOldCustomersAppearInTheMiddleOfTheList(t *testing.T) {
	t.Parallel()
	c := read(rows(40))
	before := c.server.Listed(c.org.ID)
	at := before[20].CreatedAt
	added, err := c.server.AddOldCustomer(c.org.ID, at, 3)
	if err != nil {
		t.Fatal(err)
	}
	ids := c.list(t, "limit=100&sorting=created_at&sorting=customer_id&sorting=meter_id").ids()
	for _, b := range before {
		if slices.Index(ids, b.ID) < slices.Index(ids, added[0].ID) && b.CreatedAt.After(at) ||
			slices.Index(ids, b.ID) > slices.Index(ids, added[0].ID) && b.CreatedAt.Before(at) {
			t.Errorf("a row made at %v is on the wrong side of one made at %v", b.CreatedAt, at)
		}
	}
	for _, r := range added {
		known := slices.ContainsFunc(before, func(b Row) bool { return b.CustomerID == r.CustomerID })
		if known || !r.CreatedAt.Equal(at) || !r.ModifiedAt.IsZero() || r.CustomerID != added[0].CustomerID {
			t.Errorf("added %+v, want rows of one new customer, made at %v and never modified", r, at)
		}
	}
	more, err := c.server.AddOldCustomer(c.org.ID, at, len(c.server.Meters(c.org.ID))+2) // two of them on new meters
	if err != nil || len(more) != 8 {
		t.Errorf("%d rows of a customer with more rows than meters, error %v", len(more), err)
	}
}

func TestOldMetersHaveRowsOfCustomersOldAndNew(t *testing.T) {
	t.Parallel()
	c := read(rows(40))
	at := c.server.Listed(c.org.ID)[20].CreatedAt
	customers := len(c.server.Customers(c.org.ID))
	rowsOf := func(m Meter) []Row {
		return slices.DeleteFunc(c.server.Snapshot(c.org.ID), func(r Row) bool { return r.MeterID != m.ID })
	}
	m := do[Meter](t)(c.server.AddOldMeter(c.org.ID, "forgotten", at, 3, 2))
	added := rowsOf(m)
	if got := len(c.server.Customers(c.org.ID)); got != customers+2 || len(added) != 5 || !m.CreatedAt.Equal(at) {
		t.Errorf("%d rows, %d new customers, meter made at %v; want 5, 2, %v", len(added), got-customers, m.CreatedAt, at)
	}
	for _, r := range added {
		if r.MeterName != "forgotten" || !r.CreatedAt.Equal(at) || c.lists(t, r) != [3]bool{true, true, true} {
			t.Errorf("added %+v", r)
		}
	}
	if got := len(rowsOf(do[Meter](t)(c.server.AddOldMeter(c.org.ID, "all", at, 1000, 0)))); got != customers+2 {
		t.Errorf("%d rows; want one for each of %d customers", got, customers+2)
	}
}

func TestLateTransactionsAreOlderThanTheirCommit(t *testing.T) {
	t.Parallel()
	c := read(neverModified())
	at := time.Now().Add(-5 * time.Hour).Truncate(time.Microsecond).UTC()
	id := c.server.Snapshot(c.org.ID)[0].ID
	used, err := c.server.ConsumeLate(id, "2.5", at)
	if err != nil || !used.ModifiedAt.Equal(at) || used.Units.Consumed != "2.5" {
		t.Errorf("used late: %+v, error %v", used, err)
	}
	again, err := c.server.ConsumeLate(id, "2.5", at.Add(-time.Hour))
	if err != nil || again.ModifiedAt.Sub(at) != time.Microsecond {
		t.Errorf("used by an older transaction: modified at %v, error %v; want just after %v", again.ModifiedAt, err, at)
	}
	added, err := c.server.AddCustomerMeter(c.org.ID, NewCustomerMeter{CreatedAt: at})
	if err != nil || !added.CreatedAt.Equal(at) || c.lists(t, added) != [3]bool{true, true, true} {
		t.Errorf("added late: %+v, error %v", added, err)
	}
}

func TestUnlistedRowsAreKnownToGetAlone(t *testing.T) {
	t.Parallel()
	c := read(rows(40))
	row := c.server.Snapshot(c.org.ID)[7]
	for _, unlisted := range []bool{true, true, false} {
		got, err := c.server.SetUnlisted(row.ID, unlisted)
		if err != nil || got.Unlisted != unlisted {
			t.Fatalf("set to %t: %t, error %v", unlisted, got.Unlisted, err)
		}
		if got := c.lists(t, row); got != [3]bool{!unlisted, !unlisted, !unlisted} {
			t.Errorf("unlisted %t: listed %v", unlisted, got)
		}
		if got := c.do(t, listPath+row.ID.String()).StatusCode; got != http.StatusOK {
			t.Errorf("unlisted %t: get answers %d", unlisted, got)
		}
		total := c.list(t, "").Pagination.TotalCount
		if got := len(c.server.Listed(c.org.ID)); got != total || (total == 39) != unlisted {
			t.Errorf("unlisted %t: %d rows counted, %d listed", unlisted, total, got)
		}
	}
}

func TestRawRowsAreSentByteForByte(t *testing.T) {
	t.Parallel()
	c := read(rows(5))
	for i, row := range c.server.Snapshot(c.org.ID) {
		text := []string{`{"consumed_units":1e400000}`, `{"id":1,"id":2}`, `{"name":"\u0000"}`, "{\"name\":\"\xff\xfe\"}", `{`}[i]
		if got := do[Row](t)(c.server.SetRaw(row.ID, text)); !got.Raw || got.JSON != text {
			t.Errorf("the row is %+v", got)
		}
		for _, path := range []string{listPath, listPath + row.ID.String()} {
			body, err := io.ReadAll(c.do(t, path).Body)
			if err != nil || !strings.Contains(string(body), text) {
				t.Errorf("GET %s lacks %q, error %v", path, text, err)
			}
		}
	}
}
