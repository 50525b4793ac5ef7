package mirror

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

// TestTickLooksFromTheStoredFloor: neither a newer row in the mirror nor a tick
// that failed moves the floor past a change that nobody has read.
func TestTickLooksFromTheStoredFloor(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(w *env, other polarsim.Row){
		"after a webhook": func(w *env, other polarsim.Row) {
			must1(w.sim.Consume(other.ID, "1"))
			inbox, _ := w.inbox()
			w.deliver(inbox, other.CustomerID, polarsim.CustomerStateChanged)
			w.applying(inbox)
			w.becomes("0", unprocessed)
		},
		"after a tick that failed": func(w *env, _ polarsim.Row) {
			w.sim.FailWhen(func(_ int, r *http.Request) polarsim.Fault {
				if strings.Contains(r.URL.RawQuery, "modified_at") {
					return polarsim.NotJSON
				}
				return polarsim.NoFault
			})
			if err := w.tick(); err == nil {
				w.Error("a tick that could not read what changed succeeded")
			}
			w.sim.FailWhen(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quiet(t, 400, 0.3)
			w.backfill()
			w.exec(`UPDATE polar.tick_floors SET floor_at = floor_at - interval '1 hour'`)
			rows := w.sim.Listed(w.orgs[0].ID)
			changed, other := rows[100], rows[300]
			if changed.CustomerID == other.CustomerID {
				t.Fatal("the two rows are of one customer")
			}
			must1(w.sim.SetState(changed.ID, polarsim.Units{Consumed: "77.7", Credited: changed.Units.Credited, Balance: "1"}, time.Now().Add(-30*time.Minute)))
			between(w, other)
			if err := w.tick(); err != nil {
				t.Fatal(err)
			}
			w.same()
		})
	}
}

// TestBlockThatCouldNotBeSavedIsReadAgain: the cursor of no later block passes
// over it.
func TestBlockThatCouldNotBeSavedIsReadAgain(t *testing.T) {
	t.Parallel()
	w := small(t, 1000)
	small := func(o *Options) { o.BlockRows, o.PagesInFlight = 100, 1 }
	w.exec(`
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused';
END $$`)
	w.exec(`
CREATE TRIGGER refuse BEFORE INSERT ON polar.customer_meters FOR EACH ROW
  WHEN (NEW.id = '` + w.sim.Listed(w.orgs[0].ID)[500].ID.String() + `') EXECUTE FUNCTION public.refuse()`)
	if err := w.mirror(small).Backfill(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a walk whose rows Postgres refuses: %v", err)
	}
	w.exec(`DROP TRIGGER refuse ON polar.customer_meters`)
	w.backfill(small)
	w.same()
}

// TestWalkUnderAnotherFilterBeginsAnew: what a stopped walk proved it proved of its
// own filter.
func TestWalkUnderAnotherFilterBeginsAnew(t *testing.T) {
	t.Parallel()
	w := small(t, 3000)
	slow := func(o *Options) { o.BlockRows, o.PagesInFlight = 100, 1 }
	meter := w.sim.Meters(w.orgs[0].ID)[0].ID
	ctx, cancel := context.WithCancel(t.Context())
	w.sim.Before(func(n int, _ *http.Request) {
		if n == 5 {
			cancel()
		}
	})
	err := w.mirror(slow, func(o *Options) { o.Organizations[0].Filter = Filter{MeterIDs: []uuid.UUID{meter}} }).Backfill(ctx)
	w.sim.Before(nil)
	if got := w.value(`SELECT count(*)::text FROM polar.cursors`); err == nil || got != "1" {
		t.Fatalf("the walk under the filter left %s cursors and ended with %v, want one and an error", got, err)
	}
	w.backfill(slow)
	w.same()
}

// TestRowsThatBecomeUnusableAreNotMissing: they are on the page, and so no
// suspects, however many they are.
func TestRowsThatBecomeUnusableAreNotMissing(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	w.backfill()
	w.agedRows()
	for _, row := range w.sim.Listed(w.orgs[0].ID)[50:200] {
		must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, `"balance":`, `"balance":null,"old":`, 1)))
	}
	w.sim.ForgetRequests()
	w.backfill()
	if got := w.value(`SELECT concat_ws(' ', count(*), count(deleted_at)) FROM polar.customer_meters`); got != "300 0" {
		t.Errorf("rows, and those marked deleted: %s, want 300 0", got)
	}
	for _, r := range w.sim.Requests() {
		if !strings.HasSuffix(r.Path, "/customer-meters/") {
			t.Errorf("%s was asked for, though it is listed", r.Path)
			break
		}
	}
}

// TestRowsThatOnlyTheListLacksAreNotMarked: Polar is asked for each suspect, not
// for one in place of all. A meter is archived while the list is read and no
// longer when its rows are asked for.
func TestRowsThatOnlyTheListLacksAreNotMarked(t *testing.T) {
	t.Parallel()
	w := newEnv(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 300, Meters: 6}}})
	w.backfill()
	w.agedRows()
	meter := w.sim.Meters(w.orgs[0].ID)[0].ID
	if n := must1(w.sim.ArchiveMeter(meter)); n == 0 || n >= fewSuspects {
		t.Fatalf("the meter has %d rows, want some, and fewer than %d", n, fewSuspects)
	}
	w.sim.Before(func(_ int, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/customer-meters/") {
			must1(w.sim.UnarchiveMeter(meter))
		}
	})
	w.backfill()
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows that Polar has were marked deleted", got)
	}
	w.sim.Before(nil)
	w.backfill()
	w.same()
}
