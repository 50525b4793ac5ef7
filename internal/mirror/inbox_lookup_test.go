package mirror

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

func TestUnknownMeterIsAskedForOnce(t *testing.T) {
	t.Parallel()
	w := small(t, 120)
	org := w.orgs[0].ID
	w.backfill()
	meter := must1(w.sim.AddMeter(org, "brand new"))
	inbox, reported := w.inbox()
	l := w.listen(`SELECT 'x'`)
	seen := map[uuid.UUID]bool{}
	for _, r := range w.sim.Listed(org) {
		if !seen[r.CustomerID] && len(seen) < 30 {
			seen[r.CustomerID] = true
			must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{CustomerID: r.CustomerID, MeterID: meter.ID, Units: polarsim.Units{Consumed: "4.5"}}))
			w.deliver(inbox, r.CustomerID, polarsim.CustomerStateChanged)
		}
	}
	w.sim.ForgetRequests()
	w.applying(inbox)
	w.becomes("0", unprocessed)
	w.same()
	if got := w.sim.RequestCount(); got != 1 {
		t.Errorf("%d requests for one unknown meter of 30 customers", got)
	}
	if got := w.value(`SELECT concat_ws(' ', count(*), sum(attempts), count(error)) FROM polar.webhook_events`); got != "30 30 0" {
		t.Errorf("deliveries, attempts, errors: %s, want 30 30 0", got)
	}
	if got := reported.first(w, 30); len(got) != 30 {
		t.Errorf("reported %d results, want 30", len(got))
	}
	if h := l.total(30); h.RowsInserted != 30 || h.RowsUpdated != 0 {
		t.Errorf("listeners were told %+v, want 30 inserted rows", h)
	}
}

// TestArchivedMeterThatNoWalkHasSeenArrives: the state has customer meters that
// the list leaves out.
func TestArchivedMeterThatNoWalkHasSeenArrives(t *testing.T) {
	t.Parallel()
	w := small(t, 60)
	org := w.orgs[0].ID
	archived := w.sim.Meters(org)[0].ID
	must1(w.sim.ArchiveMeter(archived))
	w.backfill()
	inbox, _ := w.inbox()
	w.applying(inbox)
	for _, r := range w.sim.Snapshot(org) {
		if r.MeterID == archived {
			w.deliver(inbox, r.CustomerID, polarsim.CustomerStateChanged)
		}
	}
	w.becomes("0", unprocessed)
	w.becomes(fmt.Sprint(len(w.sim.Snapshot(org))), `SELECT count(*)::text FROM polar.customer_meters`)
	w.backfill()
	w.same()
	if got := w.verify(false); !got.Equal() {
		t.Errorf("verify: %+v", got)
	}
}

func TestCustomerMeterThatIsGoneHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := small(t, 60)
	org := w.orgs[0].ID
	w.backfill()
	row := w.sim.Listed(org)[5]
	meter := must1(w.sim.AddMeter(org, "short-lived"))
	gone := must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{CustomerID: row.CustomerID, MeterID: meter.ID}))
	must1(w.sim.Consume(row.ID, "5"))
	inbox, _ := w.inbox()
	id := w.deliver(inbox, row.CustomerID, polarsim.CustomerStateChanged)
	must1(w.sim.DeleteCustomerMeter(gone.ID))
	w.applying(inbox)
	w.becomes("applied", fate, id)
	w.same()
}

func TestDeliveryIsTriedAgainUntilPolarAnswersAboutItsMeter(t *testing.T) {
	t.Parallel()
	w := small(t, 60)
	org := w.orgs[0].ID
	w.backfill()
	row := w.sim.Listed(org)[5]
	meter := must1(w.sim.AddMeter(org, "new"))
	must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{CustomerID: row.CustomerID, MeterID: meter.ID}))
	must1(w.sim.Consume(row.ID, "5"))
	first, _ := w.inbox(w.locksOut)
	id := w.deliver(first, row.CustomerID, polarsim.CustomerStateChanged)
	before := w.sim.RequestCount()
	stop := w.applying(first)
	w.becomes("1 t", `SELECT concat_ws(' ', attempts, error LIKE 'meter ' || $2::text || ' is not known yet: get customer meter %401%') FROM polar.webhook_events WHERE webhook_id = $1`, id, meter.ID.String())
	if got := w.value(`SELECT (balance = $2::text::numeric)::text FROM polar.customer_meters WHERE id = $1`, row.ID, must2(w.sim.Find(row.ID)).Units.Balance); got != "true" {
		t.Error("what needed no answer of Polar's was not applied")
	}
	stop()
	if got := w.sim.RequestCount() - before; got != 1 {
		t.Errorf("%d requests for one unknown meter, want 1", got)
	}
	later, _ := w.inbox() // has not been told off yet
	w.exec(`UPDATE polar.webhook_events SET next_attempt_at = now()`)
	w.applying(later)
	w.becomes("applied", fate, id)
	w.same()
}

func TestDeliveryIsGivenUpInTheEndAndKeptWithItsError(t *testing.T) {
	t.Parallel()
	w := small(t, 60)
	org := w.orgs[0].ID
	w.backfill()
	row := w.sim.Listed(org)[5]
	meter := must1(w.sim.AddMeter(org, "new"))
	must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{CustomerID: row.CustomerID, MeterID: meter.ID}))
	inbox, reported := w.inbox(w.locksOut)
	id := w.deliver(inbox, row.CustomerID, polarsim.CustomerStateChanged)
	w.exec(`UPDATE polar.webhook_events SET attempts = $1`, maxAttempts-1)
	w.applying(inbox)
	w.becomes("failed t t", `SELECT concat_ws(' ', status, error LIKE 'meter %', payload IS NOT NULL) FROM polar.webhook_events WHERE webhook_id = $1`, id)
	if got := reported.first(w, 1); len(got) != 1 || got[0].Status != store.DeliveryFailed || got[0].Error == "" {
		t.Errorf("reported %+v", got)
	}
}

// locksOut gives a mirror a token that was revoked.
func (w *env) locksOut(o *Options) { o.Organizations[0].Client = w.clientWith("polar_oat_revoked") }
