package mirror

import (
	"testing"

	"github.com/google/uuid"
)

func (w *world) live() string {
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
	w.settled()
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
