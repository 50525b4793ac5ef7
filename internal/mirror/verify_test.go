package mirror

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

// verify returns the report on the only organization.
func (w *env) verify(repair bool) Report {
	w.Helper()
	reports, err := w.mirror().Verify(w.Context(), repair)
	if err != nil || len(reports) != 1 {
		w.Fatalf("verify: %+v, %v", reports, err)
	}
	return reports[0]
}

// kinds says how the rows of the findings differ.
func (r *Report) kinds() map[uuid.UUID]FindingKind {
	kinds := map[uuid.UUID]FindingKind{}
	for _, f := range r.Findings {
		kinds[f.ID] = f.Kind
	}
	return kinds
}

func TestVerifySaysEqualAfterAWalk(t *testing.T) {
	t.Parallel()
	large(t)
	for _, rows := range []int{0, 1, 100, 730} {
		w := small(t, rows)
		w.backfill()
		if got := w.verify(false); !got.Equal() || !got.Exact || got.Rows != rows || got.Behind != 0 {
			t.Errorf("%d rows: %+v", rows, got)
		}
	}
}

// TestVerifyOfAMirrorThatWasNeverWholeIsAnError: what it lacks must not pass for
// what changed since.
func TestVerifyOfAMirrorThatWasNeverWholeIsAnError(t *testing.T) {
	t.Parallel()
	w := small(t, 250)
	for _, repair := range []bool{false, true} {
		if _, err := w.mirror().Verify(t.Context(), repair); !errors.Is(err, ErrNeverMirrored) {
			t.Errorf("repair %v: %v", repair, err)
		}
	}
	if got := w.sim.RequestCount(); got != 0 {
		t.Errorf("%d requests for it", got)
	}
}

func TestVerifyNamesWhatDiffersAndRepairMendsIt(t *testing.T) {
	t.Parallel()
	large(t)
	for name, tampering := range map[string]struct {
		sql   string
		kind  FindingKind
		field string
	}{
		"balance":       {`UPDATE polar.customer_meters SET balance = balance + 0.1 WHERE id = $1`, Different, "balance"},
		"credited":      {`UPDATE polar.customer_meters SET credited_units = credited_units - 1 WHERE id = $1`, Different, "credited_units"},
		"missing":       {`UPDATE polar.customer_meters SET deleted_at = now() - interval '1 minute' WHERE id = $1`, Missing, ""},
		"customer name": {`UPDATE polar.customers SET name = 'x' WHERE id = (SELECT customer_id FROM polar.customer_meters WHERE id = $1)`, Different, "customer.name"},
		"meter raw":     {`UPDATE polar.meters SET raw = '{}' WHERE id = (SELECT meter_id FROM polar.customer_meters WHERE id = $1)`, Different, "meter.raw"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quiet(t, 250, 0.3)
			w.backfill()
			row := w.sim.Listed(w.orgs[0].ID)[77]
			if _, err := w.db.Pool.Exec(t.Context(), tampering.sql, row.ID); err != nil {
				t.Fatal(err)
			}
			got := w.verify(false)
			found := false
			for _, f := range got.Findings {
				if f.ID != row.ID {
					continue
				}
				found = f.Kind == tampering.kind && (tampering.field == "" || f.Fields[0].Field == tampering.field)
			}
			if !found {
				t.Fatalf("the tampered row is not among the findings: %+v", got)
			}
			if got := w.verify(true); got.Repaired == 0 {
				t.Errorf("nothing was repaired: %+v", got)
			}
			w.same()
			if got := w.verify(false); !got.Equal() {
				t.Errorf("after the repair: %+v", got)
			}
		})
	}
}

func TestVerifyFindsWhatPolarHasNoLonger(t *testing.T) {
	t.Parallel()
	large(t)
	w := quiet(t, 250, 0.3)
	w.backfill()
	row := w.sim.Listed(w.orgs[0].ID)[0]
	must1(w.sim.DeleteCustomerMeter(row.ID))
	got := w.verify(true)
	if len(got.Findings) != 1 || got.Findings[0].Kind != Extra || got.Findings[0].ID != row.ID {
		t.Fatalf("findings %+v, want %s extra", got.Findings, row.ID)
	}
	if got := w.verify(false); !got.Equal() {
		t.Errorf("after the repair: %+v", got)
	}
}

func TestVerifyReadsADifferenceAgainBeforeItCounts(t *testing.T) {
	t.Parallel()
	large(t)
	w := quiet(t, 250, 0.3)
	w.backfill()
	row := w.sim.Listed(w.orgs[0].ID)[40]
	once := true
	w.sim.Before(func(_ int, r *http.Request) {
		if once { // between the reading of a page and of the mirror
			once = false
			must1(w.sim.Consume(row.ID, "1"))
			if err := w.tick(); err != nil {
				t.Error(err)
			}
		}
	})
	if got := w.verify(false); !got.Equal() {
		t.Errorf("a change during verify counts as a difference: %+v", got)
	}
}

func TestVerifyHoldsNoLockAndCallsNewsNoDifference(t *testing.T) {
	t.Parallel()
	large(t)
	w := quiet(t, 250, 0.3)
	w.backfill()
	rows := w.sim.Listed(w.orgs[0].ID)
	for _, row := range rows[:9] {
		must1(w.sim.Consume(row.ID, "0.5"))
	}
	if got := w.verify(false); !got.Equal() || got.Behind != 9 {
		t.Errorf("nine rows changed since the last run: %+v", got)
	}
	if got := w.value(`SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); got != "0" {
		t.Errorf("%s advisory locks held", got)
	}
}

// TestVerifyRepairMarksNothingDeletedOnceTheTokenSeesNothing: the token loses the
// organization after it has listed all rows.
func TestVerifyRepairMarksNothingDeletedOnceTheTokenSeesNothing(t *testing.T) {
	t.Parallel()
	large(t)
	w := quiet(t, 150, 0.3)
	w.backfill()
	w.exec(`UPDATE polar.customer_meters SET balance = balance + 1`)
	w.sim.FailWhen(func(_ int, r *http.Request) polarsim.Fault {
		if !strings.HasSuffix(r.URL.Path, "/customer-meters/") {
			return polarsim.LostOrganization
		}
		return polarsim.NoFault
	})
	if _, err := w.mirror().Verify(t.Context(), true); !errors.Is(err, errBlind) {
		t.Errorf("got %v, want that the token sees nothing", err)
	}
	if got := w.value(`SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NOT NULL`); got != "0" {
		t.Errorf("%s rows are marked deleted", got)
	}
}

func TestVerifySweepsALargeOrganizationAndFindsWhatDiffers(t *testing.T) {
	t.Parallel()
	large(t)
	w := swept(t, 400)
	verify := func() Report {
		t.Helper()
		reports, err := w.mirror(sweeping).Verify(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		return reports[0]
	}
	w.sim.ForgetRequests()
	if got := verify(); !got.Equal() || !got.Exact || got.Rows != 400 {
		t.Errorf("report %+v, want 400 equal rows", got)
	}
	if cost := w.costs("verify"); cost.SkippedRows > 400 {
		t.Errorf("%d rows skipped: it walked", cost.SkippedRows)
	}
	rows := w.sim.Listed(w.orgs[0].ID)
	w.exec(`UPDATE polar.customer_meters SET balance = balance + 1 WHERE id = $1`, rows[3].ID)
	w.exec(`UPDATE polar.customer_meters SET deleted_at = now() - interval '1 minute' WHERE id = $1`, rows[300].ID)
	want := map[uuid.UUID]FindingKind{rows[3].ID: Different, rows[300].ID: Missing}
	if report := verify(); !maps.Equal(report.kinds(), want) || !report.Exact || report.Rows != 400 {
		t.Errorf("%+v, want %v", report, want)
	}
}

// TestVerifyTakesNoRowThatIsGoneForOneThatIsMissing: the mirror has as many rows as
// Polar, one that is gone and none of a customer whom it does not know.
func TestVerifyTakesNoRowThatIsGoneForOneThatIsMissing(t *testing.T) {
	t.Parallel()
	w := swept(t, 400)
	gone := must1(w.sim.DeleteCustomerMeter(w.sim.Listed(w.orgs[0].ID)[3].ID)).ID
	missing := must1(w.sim.AddOldCustomer(w.orgs[0].ID, time.Now().UTC().Add(-365*24*time.Hour), 1))[0].ID
	reports, err := w.mirror(sweeping).Verify(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uuid.UUID]FindingKind{gone: Extra, missing: Missing}
	if report := reports[0]; !maps.Equal(report.kinds(), want) || !report.Exact {
		t.Errorf("%+v, want %v", report, want)
	}
}
