package polarsim

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestDefaultOrderLosesRowsWhileNothingChanges(t *testing.T) {
	t.Parallel()
	c := read(rows(3000))
	want := c.server.Listed(c.org.ID)
	if n := missing(t, c.walk(t, 100), want); n < len(want)/50 {
		t.Errorf("a walk in the default order lost %d of %d rows, want 2 %% at least", n, len(want))
	}
	if n := missing(t, c.walk(t, 100, "-modified_at", "customer_id", "meter_id"), want); n > 0 {
		t.Errorf("a walk in a total order lost %d rows", n)
	}
}

func TestTiesChangePlacesFromRequestToRequest(t *testing.T) {
	t.Parallel()
	c := read(Options{Organizations: []Organization{{Name: "a", CustomerMeters: 50, NeverModified: 1}}})
	first := c.list(t, "limit=50").ids()
	second := c.list(t, "limit=50").ids()
	if slices.Equal(first, second) {
		t.Error("fifty rows without modified_at came twice in one order")
	}
	byID := func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(first, byID)
	slices.SortFunc(second, byID)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("one page with everything lost or repeated rows (-first +second):\n%s", diff)
	}
}

func TestNullsComeFirstDescendingAndLastAscending(t *testing.T) {
	t.Parallel()
	o := rows(80)
	c := read(o)
	nulls := func(c *reader, sorting string) (first, last bool) {
		items := c.list(t, "limit=100&sorting="+sorting).Items
		return items[0].ModifiedAt == nil, items[len(items)-1].ModifiedAt == nil
	}
	if first, last := nulls(c, "-modified_at"); !first || last {
		t.Errorf("descending: null first %t and last %t, want only first", first, last)
	}
	if first, last := nulls(c, "modified_at"); first || !last {
		t.Errorf("ascending: null first %t and last %t, want only last", first, last)
	}
	o.NullsSmallest = true
	if first, last := nulls(read(o), "-modified_at"); first || !last {
		t.Errorf("flipped: null first %t and last %t, want only last", first, last)
	}
}

func TestDeletionBelowTheOffsetHidesARow(t *testing.T) {
	t.Parallel()
	c := read(rows(250))
	order := []string{"created_at", "customer_id", "meter_id"}
	all := c.server.Listed(c.org.ID)
	c.server.ForgetRequests()
	c.server.Before(func(n int, _ *http.Request) {
		if n == 2 {
			c.server.DeleteCustomerMeter(all[0].ID)
		}
	})
	if n := missing(t, c.walk(t, 100, order...), all[1:]); n != 1 {
		t.Errorf("the walk missed %d rows that were there throughout, want 1", n)
	}
}

func TestLateCommitBelowTheOffsetRepeatsARow(t *testing.T) {
	t.Parallel()
	c := read(rows(250))
	c.server.ForgetRequests()
	c.server.Before(func(n int, _ *http.Request) {
		if n == 2 {
			c.server.AddCustomerMeter(c.org.ID, NewCustomerMeter{CreatedAt: time.Unix(0, 0)})
		}
	})
	seen := c.walk(t, 100, "created_at", "customer_id", "meter_id")
	distinct := map[uuid.UUID]bool{}
	for _, id := range seen {
		distinct[id] = true
	}
	if len(seen) != 251 || len(distinct) != 250 {
		t.Errorf("saw %d rows, %d of them distinct, want 251 and 250", len(seen), len(distinct))
	}
}

func TestArchivedMetersVanishUnlessNamed(t *testing.T) {
	t.Parallel()
	c := read(rows(90))
	row := c.server.Snapshot(c.org.ID)[0]
	gone, err := c.server.ArchiveMeter(row.MeterID)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.list(t, "").Pagination.TotalCount; gone == 0 || got != 90-gone {
		t.Errorf("%d rows listed after %d of 90 were archived", got, gone)
	}
	if got := c.list(t, "meter_id="+row.MeterID.String()).Pagination.TotalCount; got != gone {
		t.Errorf("%d rows listed of the archived meter, want %d", got, gone)
	}
	if got := c.do(t, listPath+row.ID.String()).StatusCode; got != http.StatusOK {
		t.Errorf("get of an archived meter's row: status %d, want 200", got)
	}
	if _, err := c.server.UnarchiveMeter(row.MeterID); err != nil {
		t.Fatal(err)
	}
	if got := c.list(t, "").Pagination.TotalCount; got != 90 {
		t.Errorf("%d rows listed after the meter came back, want 90", got)
	}
}

func TestForeignOrganizationIsAnEmptyList(t *testing.T) {
	t.Parallel()
	c := read(Options{Organizations: []Organization{{Name: "a", CustomerMeters: 9}, {Name: "b", CustomerMeters: 5}}})
	other := c.server.Organizations()[1]
	if got := c.list(t, "organization_id="+other.ID.String()); got.Pagination.TotalCount != 0 || len(got.Items) != 0 {
		t.Errorf("got %d rows of an organization that the token can't see", got.Pagination.TotalCount)
	}
	foreign := c.server.Snapshot(other.ID)[0]
	if got := c.do(t, listPath+foreign.ID.String()).StatusCode; got != http.StatusNotFound {
		t.Errorf("get of a foreign row: status %d, want 404", got)
	}
	c.org.Token = "personal"
	c.server.SetToken(Token{Secret: "personal", Organizations: []uuid.UUID{c.org.ID, other.ID}})
	if got := c.list(t, "").Pagination.TotalCount; got != 14 {
		t.Errorf("a personal token sees %d rows, want 14", got)
	}
	if got := c.list(t, "organization_id="+other.ID.String()).Pagination.TotalCount; got != 5 {
		t.Errorf("a personal token sees %d rows of one organization, want 5", got)
	}
}

func TestRenamingMovesNoModifiedAt(t *testing.T) {
	t.Parallel()
	c := read(rows(40))
	before := c.server.Snapshot(c.org.ID)
	touched, err := c.server.RenameCustomer(before[0].CustomerID, "Zoë \u0000 🦊")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.server.RenameMeter(before[0].MeterID, "renamed"); err != nil {
		t.Fatal(err)
	}
	for i, after := range c.server.Snapshot(c.org.ID) {
		if !after.ModifiedAt.Equal(before[i].ModifiedAt) {
			t.Errorf("modified_at of %s moved from %v to %v", after.ID, before[i].ModifiedAt, after.ModifiedAt)
		}
	}
	for _, item := range c.list(t, "limit=100").Items {
		renamed := item.Customer.Name != nil && *item.Customer.Name == "Zoë \u0000 🦊"
		if want := slices.Contains(touched, item.ID); renamed != want {
			t.Errorf("row %s shows the new name: %t, want %t", item.ID, renamed, want)
		}
	}
}

// TestDeletedCustomersRowsStayListed but not under the customer's external id,
// which Polar clears.
func TestDeletedCustomersRowsStayListed(t *testing.T) {
	t.Parallel()
	c := read(rows(40))
	all := c.server.Customers(c.org.ID)
	deleted := all[slices.IndexFunc(all, func(c Customer) bool { return c.ExternalID != nil })]
	byExternalID := url.Values{"external_customer_id": {*deleted.ExternalID}}.Encode()
	before := c.list(t, byExternalID).ids()
	touched, err := c.server.DeleteCustomer(deleted.ID)
	if err != nil {
		t.Fatal(err)
	}
	if after := c.list(t, byExternalID).ids(); len(before) != len(touched) || len(after) != 0 {
		t.Errorf("the external id finds %d rows and %d after the deletion, want %d and none", len(before), len(after), len(touched))
	}
	page := c.list(t, "limit=100")
	if len(page.Items) != 40 {
		t.Fatalf("%d rows listed after a customer was deleted, want 40", len(page.Items))
	}
	for _, item := range page.Items {
		if want := slices.Contains(touched, item.ID); (item.Customer.DeletedAt != nil) != want {
			t.Errorf("row %s shows a deleted customer: %t, want %t", item.ID, !want, want)
		}
	}
}

func TestResetMovesConsumptionDownAndModifiedAtUp(t *testing.T) {
	t.Parallel()
	c := read(rows(5))
	id := c.server.Snapshot(c.org.ID)[0].ID
	used, err := c.server.SetUnits(id, Units{Consumed: "12345678901234.123456", Credited: "9223372036854775807"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "9223359691175874572.876544"; used.Units.Balance != want {
		t.Errorf("balance %s, want %s", used.Units.Balance, want)
	}
	over, err := c.server.SetUnits(id, Units{Consumed: "1e-7", Credited: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if over.Units.Balance != "-0.0000001" || over.Units.Consumed != "1e-7" {
		t.Errorf("got %+v, want 1e-7 as it was written and a negative balance", over.Units)
	}
	reset, err := c.server.Reset(id)
	if err != nil {
		t.Fatal(err)
	}
	if reset.Units.Consumed != "0" || !reset.ModifiedAt.After(over.ModifiedAt) || !over.ModifiedAt.After(used.ModifiedAt) {
		t.Errorf("reset to %+v at %v after a change at %v", reset.Units, reset.ModifiedAt, over.ModifiedAt)
	}
	older := do[Row](t)(c.server.SetState(id, over.Units, over.ModifiedAt))
	if diff := cmp.Diff(over, older); diff != "" {
		t.Errorf("restored row (-want +got):\n%s", diff)
	}
}

// TestVersionsThatPolarDoesNotHaveAreAnsweredWith404 whatever is asked for, and
// with whatever token.
func TestVersionsThatPolarDoesNotHaveAreAnsweredWith404(t *testing.T) {
	t.Parallel()
	c := read(rows(5))
	known := listPath + c.server.Snapshot(c.org.ID)[0].ID.String()
	c.server.RemoveVersion("2026-04")
	for _, version := range []string{"2026-04", "2031-01", "2026-1", "latest"} {
		for _, path := range []string{listPath, known, listPath + uuid.NewString()} {
			for _, token := range []string{c.org.Token, "unknown"} {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Header.Set(versionHeader, version)
				r.Header.Set("Authorization", "Bearer "+token)
				w := httptest.NewRecorder()
				c.server.ServeHTTP(w, r)
				if got := w.Body.String(); w.Code != http.StatusNotFound || got != `{"detail":"Not Found"}` {
					t.Errorf("version %s, %s: %d %s", version, path, w.Code, got)
				}
			}
		}
	}
	if got := c.do(t, known); got.StatusCode != http.StatusOK || got.Header.Get(versionHeader) != "2026-10" {
		t.Errorf("without a version: status %d, version %s", got.StatusCode, got.Header.Get(versionHeader))
	}
}
