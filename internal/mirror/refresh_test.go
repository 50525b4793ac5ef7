package mirror

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// refresh refreshes customers of the only organization.
func (w *env) refresh(customers []string, changes ...func(*Options)) Refreshed {
	w.Helper()
	reports, err := w.mirror(changes...).Refresh(w.Context(), customers)
	if err != nil || len(reports) != 1 {
		w.Fatalf("refresh: %+v, %v", reports, err)
	}
	return reports[0]
}

// external returns a customer that has an id in the seller's own system and rows in
// the list.
func (w *env) external() (polarsim.Customer, []polarsim.Row) {
	w.Helper()
	for _, c := range w.sim.Customers(w.orgs[0].ID) {
		var rows []polarsim.Row
		for _, row := range w.sim.Listed(w.orgs[0].ID) {
			if row.CustomerID == c.ID {
				rows = append(rows, row)
			}
		}
		if c.ExternalID != nil && len(rows) > 0 {
			return c, rows
		}
	}
	w.Fatal("no customer has an external id")
	return polarsim.Customer{}, nil
}

const lastRefresh = `
SELECT format('%s %s, rows %s %s %s, pages %s, ', kind, status, rows_inserted, rows_updated, rows_unchanged, pages) ||
       CASE WHEN finished_at >= started_at AND requests >= pages THEN 'ended, ' ELSE '' END || coalesce(error, 'no error')
  FROM polar.sync_runs ORDER BY id DESC LIMIT 1`

func TestRefreshMirrorsAChangeWhileAFullRunHoldsTheLock(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	w.backfill()
	l := w.listen(`SELECT 'heard'`)
	customer, rows := w.external()
	row := must1(w.sim.Consume(rows[0].ID, "3.25"))
	m := w.mirror()
	wk := m.worker(m.opts.Organizations[0])
	err := wk.withSession(t.Context(), false, func(s *store.Session) error {
		full, err := wk.start(t.Context(), s, store.Full, time.Time{})
		if err != nil {
			return err
		}
		got := w.refresh([]string{*customer.ExternalID})
		w.same()
		if len(got.Customers) != 1 || got.Customers[0].ID != customer.ID || got.Customers[0].Listed != len(rows) {
			t.Fatalf("%+v", got)
		}
		changes := got.Customers[0].Changes
		if len(changes) != 1 || changes[0].ID != row.ID || changes[0].Kind != RowChanged || changes[0].MeterName != row.MeterName {
			t.Fatalf("changes %+v", changes)
		}
		if d := changes[0].Fields[0]; d.Field != "consumed_units" || digits(t, d.A) != digits(t, rows[0].Units.Consumed) || digits(t, d.B) != digits(t, row.Units.Consumed) {
			t.Errorf("changed %+v", d)
		}
		if h := l.next(); h.Kind != store.Refresh || h.RunID != got.RunID || h.RowsUpdated != 1 {
			t.Errorf("told %+v", h)
		}
		return full.finish(t.Context(), store.Outcome{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"full succeeded true", "full succeeded -", "refresh succeeded -"}, w.runs()); diff != "" {
		t.Error(diff)
	}
	if got := w.value(`SELECT source FROM polar.customer_meter_history WHERE customer_meter_id = $1 ORDER BY observed_at DESC LIMIT 1`, row.ID); got != "refresh" {
		t.Errorf("the history says that %s saw it", got)
	}
	if got := w.value(`SELECT count(*)::text FROM polar.suspects`); got != "0" {
		t.Errorf("%s suspects", got)
	}
}

// TestRefreshFindsCustomersByEitherID and says of whom it found nothing.
func TestRefreshFindsCustomersByEitherID(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	customer, rows := w.external()
	uuidAsOwn := uuid.NewString()
	list := w.sim.Customers(w.orgs[0].ID)
	other := list[0]
	for _, c := range list {
		if c.ID != customer.ID && c.ExternalID != nil {
			other = c
		}
	}
	must1(w.sim.EditCustomer(other.ID, func(c *polarsim.Customer) { c.ExternalID = &uuidAsOwn }))
	nobody, stranger := "nobody", uuid.NewString()

	got := w.refresh([]string{strings.ToUpper(customer.ID.String()), *customer.ExternalID, uuidAsOwn, nobody, stranger, nobody})
	if diff := cmp.Diff([]string{nobody, stranger}, got.Unknown); diff != "" {
		t.Error(diff)
	}
	if len(got.Customers) != 2 || got.Customers[0].ID != customer.ID || got.Customers[1].ID != other.ID || got.Customers[1].Asked != uuidAsOwn {
		t.Fatalf("found %+v", got.Customers)
	}
	for _, change := range got.Customers[0].Changes {
		if change.Kind != RowAdded || len(change.Fields) != 3 {
			t.Errorf("change %+v of a row that the mirror lacked", change)
		}
	}
	if len(got.Customers[0].Changes) != len(rows) {
		t.Errorf("%d changes for %d new rows", len(got.Customers[0].Changes), len(rows))
	}

	// Whom the mirror knows by Polar's id is not looked for among the seller's.
	w.sim.ForgetRequests()
	again := w.refresh([]string{customer.ID.String()})
	if len(again.Customers) != 1 || len(again.Customers[0].Changes) != 0 || again.Customers[0].Listed != len(rows) {
		t.Errorf("asked again: %+v", again)
	}
	if got := w.sim.RequestCount(); got != 1 {
		t.Errorf("%d requests for a customer that is known, want 1", got)
	}
}

// TestRefreshLeavesWhatIsNewerAndWhatIsNotListed as it is in the mirror.
func TestRefreshLeavesWhatIsNewerAndWhatIsNotListed(t *testing.T) {
	t.Parallel()
	w := newEnv(t, polarsim.Options{Seed: 13, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 300, Meters: 4, EveryMeter: true}}})
	w.backfill()
	customer, rows := w.external()
	if len(rows) < 3 {
		t.Fatalf("a customer of %d rows, want three at least", len(rows))
	}
	// A webhook has brought a state that is newer than the one that is listed.
	newer, _, err := polar.DecodeCustomerMeter([]byte(rows[0].JSON))
	if err != nil {
		t.Fatal(err)
	}
	newer.ModifiedAt, newer.CreditedUnits = time.Now().UTC().Truncate(time.Microsecond), newer.CreditedUnits+7
	if _, err := w.store.Apply(t.Context(), w.orgs[0].ID, store.Webhook, &store.Block{CustomerMeters: []*polar.CustomerMeter{newer}}); err != nil {
		t.Fatal(err)
	}
	must1(w.sim.DeleteCustomerMeter(rows[1].ID))
	must1(w.sim.ArchiveMeter(rows[2].MeterID))
	before := w.value(dataVersions)

	got := w.refresh([]string{customer.ID.String()})
	if len(got.Customers) != 1 || len(got.Customers[0].Changes) != 0 || got.Customers[0].Listed != len(rows)-2 {
		t.Errorf("refreshed %+v", got)
	}
	if w.value(dataVersions) != before {
		t.Error("rows were written")
	}
	if got := w.value(`SELECT count(*)::text FROM polar.suspects`); got != "0" {
		t.Errorf("%s suspects", got)
	}

	// Of whom nothing is listed the mirror still knows.
	for _, row := range slices.Delete(rows, 1, 2) {
		must1(w.sim.SetUnlisted(row.ID, true))
	}
	got = w.refresh([]string{customer.ID.String()})
	if len(got.Customers) != 1 || got.Customers[0].Listed != 0 || len(got.Unknown) != 0 || w.deleted() != "0" {
		t.Errorf("refreshed %+v, %s marked deleted", got, w.deleted())
	}
}

// TestRefreshRevivesARowThatIsListedAgain: the request was begun well after the row was
// marked deleted.
func TestRefreshRevivesARowThatIsListedAgain(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	w.backfill()
	customer, rows := w.external()
	w.exec(`UPDATE polar.customer_meters SET deleted_at = now() - interval '1 minute' WHERE id = '` + rows[0].ID.String() + `'`)
	got := w.refresh([]string{customer.ID.String()})
	if len(got.Customers) != 1 || len(got.Customers[0].Changes) != 1 {
		t.Fatalf("refreshed %+v", got)
	}
	if change := got.Customers[0].Changes[0]; change.Kind != RowReturned || change.Fields[0].Field != "deleted_at" {
		t.Errorf("change %+v", change)
	}
	w.same()
}

// TestRefreshOfManyCustomersTakesFewRequests, and pages overlap where one does not do.
func TestRefreshOfManyCustomersTakesFewRequests(t *testing.T) {
	t.Parallel()
	large(t)
	w := newEnv(t, polarsim.Options{Seed: 13, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 900, Meters: 4, EveryMeter: true}}})
	var ids []string
	for _, c := range w.sim.Customers(w.orgs[0].ID) {
		ids = append(ids, c.ID.String())
	}
	got := w.refresh(ids)
	w.same()
	longest := 0
	for _, r := range w.sim.Requests() {
		longest = max(longest, len(r.Path)+len(r.Query))
	}
	if longest > 4096 || w.sim.RequestCount() > 20 {
		t.Errorf("%d requests for %d customers with 900 rows, the longest of %d bytes", w.sim.RequestCount(), len(ids), longest)
	}
	if len(got.Customers) != len(ids) {
		t.Errorf("%d customers of %d", len(got.Customers), len(ids))
	}
}

// TestRefreshKeepsToTheFilter of the organization.
func TestRefreshKeepsToTheFilter(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	customer, _ := w.external()
	var let uuid.UUID
	for _, c := range w.sim.Customers(w.orgs[0].ID) {
		if c.ID != customer.ID {
			let = c.ID
		}
	}
	got := w.refresh([]string{customer.ID.String(), *customer.ExternalID}, func(o *Options) { o.Organizations[0].Filter = Filter{CustomerIDs: []uuid.UUID{let}} })
	if len(got.Unknown) != 2 || w.value(`SELECT count(*)::text FROM polar.customer_meters`) != "0" {
		t.Errorf("mirrored a customer that the filter leaves out: %+v", got)
	}
}

// TestRefreshThatFailsIsRecorded with what it did and why it failed.
func TestRefreshThatFailsIsRecorded(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	w.backfill()
	customer, rows := w.external()
	must1(w.sim.Consume(rows[0].ID, "1"))
	w.sim.FailWhen(func(_ int, r *http.Request) polarsim.Fault {
		if r.URL.Query().Has("external_customer_id") {
			return polarsim.NotJSON
		}
		return polarsim.NoFault
	})
	reports, err := w.mirror().Refresh(t.Context(), []string{customer.ID.String(), "nobody"})
	if err == nil || len(reports) != 1 || len(reports[0].Customers) != 1 || len(reports[0].Unknown) != 0 {
		t.Errorf("a refresh half of which failed: %+v, %v", reports, err)
	}
	if got, want := w.value(lastRefresh), fmt.Sprintf("refresh failed, rows 0 1 %d", len(rows)-1); !strings.HasPrefix(got, want) || !strings.Contains(got, "pages 1, ended, list customer meters") {
		t.Errorf("run %q, want %q", got, want)
	}
}

// TestRefreshWithAWrongTokenIsAnError: that it lists nothing says nothing about the
// customers that the mirror knows.
func TestRefreshWithAWrongTokenIsAnError(t *testing.T) {
	t.Parallel()
	w := newEnv(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 300}, {Name: "globex", CustomerMeters: 30}}})
	w.backfill()
	customer, _ := w.external()
	m := w.mirror(func(o *Options) {
		o.Organizations[0].Client = o.Organizations[1].Client
		o.Organizations = o.Organizations[:1]
	})
	if _, err := m.Refresh(t.Context(), []string{customer.ID.String()}); err == nil || !strings.Contains(err.Error(), "cannot see organization") {
		t.Errorf("refresh with another organization's token: %v", err)
	}
}
