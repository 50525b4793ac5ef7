package mirror

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

func (w *env) live() string {
	w.Helper()
	return w.value(`SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NULL AND out_of_scope_at IS NULL`)
}

func TestFilterMirrorsOnlyWhatItLetsIn(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 600)
	org := w.orgs[0].ID
	meter, customer := w.sim.Meters(org)[1].ID, w.sim.Listed(org)[300]
	external := ""
	for _, c := range w.sim.Customers(org) {
		if c.ExternalID != nil {
			external = *c.ExternalID
			break
		}
	}
	for name, filter := range map[string]Filter{
		"meter":    {MeterIDs: []uuid.UUID{meter}},
		"customer": {CustomerIDs: []uuid.UUID{customer.CustomerID}},
		"external": {ExternalCustomerIDs: []string{external}},
		"both":     {MeterIDs: []uuid.UUID{customer.MeterID}, CustomerIDs: []uuid.UUID{customer.CustomerID}},
	} {
		t.Run(name, func(t *testing.T) {
			w.TB = t
			filtered := func(o *Options) { o.Organizations[0].Filter = filter }
			w.backfill(filtered)
			want := 0
			externals := make(map[uuid.UUID]bool)
			for _, c := range w.sim.Customers(org) {
				externals[c.ID] = c.ExternalID != nil && *c.ExternalID == external
			}
			for _, row := range w.sim.Listed(org) {
				in := (len(filter.MeterIDs) == 0 || row.MeterID == filter.MeterIDs[0]) &&
					(len(filter.CustomerIDs) == 0 || row.CustomerID == filter.CustomerIDs[0]) &&
					(len(filter.ExternalCustomerIDs) == 0 || externals[row.CustomerID])
				if in {
					want++
				}
			}
			if got := len(w.mirrored(org)); got != want || want == 0 {
				t.Errorf("%d live rows, want %d", got, want)
			}
		})
	}
	w.TB = t
}

func TestRowsOutsideANewFilterAreOutOfScopeNotDeleted(t *testing.T) {
	t.Parallel()
	w := small(t, 600)
	org := w.orgs[0].ID
	w.backfill()
	w.agedRows()
	meter := w.sim.Meters(org)[0].ID
	w.backfill(func(o *Options) { o.Organizations[0].Filter = Filter{MeterIDs: []uuid.UUID{meter}} })
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows outside the filter were marked deleted", got)
	}
	if w.live() == "600" || w.live() == "0" {
		t.Errorf("%s rows are live under the filter", w.live())
	}
	w.backfill()
	w.same()
}

// withExternalIDs are the customers that have one, and a filter that lets in these.
func (w *env) withExternalIDs() ([]polarsim.Customer, Filter) {
	var customers []polarsim.Customer
	var filter Filter
	for _, c := range w.sim.Customers(w.orgs[0].ID) {
		if c.ExternalID != nil {
			customers = append(customers, c)
			filter.ExternalCustomerIDs = append(filter.ExternalCustomerIDs, *c.ExternalID)
		}
	}
	return customers, filter
}

// outOfScope counts rows: marked so, and suspects that are left.
func (w *env) outOfScope() string {
	w.Helper()
	return w.value(`
SELECT count(*) || ' out of scope, ' || (SELECT count(*) FROM polar.suspects) || ' suspects'
  FROM polar.customer_meters
 WHERE out_of_scope_at IS NOT NULL AND deleted_at IS NULL`)
}

// TestRowsWhoseExternalIDIsGoneAreOutOfScope however many they are: Polar clears
// the external ids of the customers that it deletes, and has the rows still. Their
// absence under the filter proves nothing, and is no reason to fail.
func TestRowsWhoseExternalIDIsGoneAreOutOfScope(t *testing.T) {
	t.Parallel()
	deleted := func(w *env, id uuid.UUID) int { return len(must1(w.sim.DeleteCustomer(id))) }
	renamed := func(w *env, id uuid.UUID) int {
		return len(must1(w.sim.EditCustomer(id, func(c *polarsim.Customer) { c.ExternalID = new("renamed " + *c.ExternalID) })))
	}
	for _, c := range []struct {
		name        string
		in, leaving int // customers let in by the filter, and those of them that leave it
		leave       func(w *env, customer uuid.UUID) (rows int)
	}{
		{"the only customer", 1, 1, deleted},
		{"one of many", 1000, 1, deleted},
		{"all of many", 1000, 1000, deleted},
		{"another external id", 1000, 200, renamed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := small(t, 1500)
			customers, filter := w.withExternalIDs()
			customers = customers[:min(c.in, len(customers))]
			filter.ExternalCustomerIDs = filter.ExternalCustomerIDs[:len(customers)]
			filtered := func(o *Options) { o.Organizations[0].Filter = filter }
			w.backfill(filtered)
			w.agedRows()
			before := len(w.mirrored(w.orgs[0].ID))
			leaving := 0
			for _, gone := range customers[:min(c.leaving, len(customers))] {
				leaving += c.leave(w, gone.ID)
			}
			w.sim.ForgetRequests()
			for range 2 { // and that is how it stays
				w.backfill(filtered)
				if got, want := w.outOfScope(), fmt.Sprintf("%d out of scope, 0 suspects", leaving); got != want || leaving == 0 {
					t.Errorf("%s, want %s", got, want)
				}
				if got := w.deleted(); got != "0" {
					t.Errorf("%s rows that Polar has were marked deleted", got)
				}
				if got := len(w.mirrored(w.orgs[0].ID)); got != before-leaving {
					t.Errorf("%d live rows, want %d", got, before-leaving)
				}
			}
			if got := w.sim.RequestCount(); got > 60 {
				t.Errorf("%d rows that left cost %d requests", leaving, got)
			}
			if got := strings.Join(w.runs(), ", "); strings.Contains(got, "failed") {
				t.Errorf("runs: %s", got)
			}
		})
	}
}

// TestListThatIsEmptyTakesNothingOutOfScope: what a wrong token sees says nothing
// about external ids.
func TestListThatIsEmptyTakesNothingOutOfScope(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	_, filter := w.withExternalIDs()
	filtered := func(o *Options) { o.Organizations[0].Filter = filter }
	w.backfill(filtered)
	w.agedRows()
	before := len(w.mirrored(w.orgs[0].ID))
	w.sim.FailWhen(func(int, *http.Request) polarsim.Fault { return polarsim.EmptyPages })
	var deletion *DeletionError
	if err := w.mirror(filtered).Backfill(t.Context()); !errors.As(err, &deletion) || !deletion.Empty {
		t.Errorf("%v", err)
	}
	if got := len(w.mirrored(w.orgs[0].ID)); got != before {
		t.Errorf("%d live rows, want %d", got, before)
	}
}

// TestCustomerThatLeftTheFilterIsLearnedFromWebhooks: rows of archived meters are
// not listed, so no walk misses them.
func TestCustomerThatLeftTheFilterIsLearnedFromWebhooks(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	customers, filter := w.withExternalIDs()
	filtered := func(o *Options) { o.Organizations[0].Filter = filter }
	w.backfill(filtered)
	for _, meter := range w.sim.Meters(w.orgs[0].ID) {
		must1(w.sim.ArchiveMeter(meter.ID))
	}
	w.backfill(filtered)
	rows := must1(w.sim.DeleteCustomer(customers[0].ID))
	inbox, _ := w.inbox(filtered)
	w.deliver(inbox, customers[0].ID, polarsim.CustomerDeleted)
	stop := w.applying(inbox)
	w.becomes("0", unprocessed)
	stop()
	w.backfill(filtered)
	if got, want := w.outOfScope(), fmt.Sprintf("%d out of scope, 0 suspects", len(rows)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
