package mirror

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polarsim"
)

// agedRows makes every row of the mirror old enough to be marked deleted.
func (w *env) agedRows() {
	w.Helper()
	w.value(`WITH aged AS (UPDATE polar.customer_meters SET first_seen_at = first_seen_at - interval '1 hour' RETURNING 1) SELECT count(*)::text FROM aged`)
}

func (w *env) deleted() string {
	w.Helper()
	return w.value(`SELECT count(*)::text FROM polar.customer_meters WHERE deleted_at IS NOT NULL`)
}

func TestDeletedRowsAreMarkedOnlyAfterPolarSaidSo(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 1000)
	w.backfill()
	w.agedRows()
	rows := w.sim.Listed(w.orgs[0].ID)
	for _, i := range []int{0, 1, 500, 998, 999} {
		must1(w.sim.DeleteCustomerMeter(rows[i].ID))
	}
	w.sim.ForgetRequests()
	w.backfill()
	w.same()
	if got := w.deleted(); got != "5" {
		t.Errorf("%s rows marked, want 5", got)
	}
	asked := 0
	for _, r := range w.sim.Requests() {
		if !strings.HasSuffix(r.Path, "/customer-meters/") && r.Status == http.StatusNotFound {
			asked++
		}
	}
	if asked < 5 {
		t.Errorf("Polar was asked for %d rows before 5 were marked", asked)
	}
	if got := w.value(`SELECT rows_deleted::text FROM polar.sync_runs ORDER BY id DESC LIMIT 1`); got != "5" {
		t.Errorf("the run counts %s deleted rows", got)
	}
}

func TestYoungRowIsMarkedDeletedOnlyByALaterWalk(t *testing.T) {
	t.Parallel()
	w := small(t, 200)
	w.backfill()
	must1(w.sim.DeleteCustomerMeter(w.sim.Listed(w.orgs[0].ID)[50].ID))
	w.backfill()
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows first seen a moment ago were marked deleted", got)
	}
	w.agedRows()
	w.backfill()
	if got := w.deleted(); got != "1" {
		t.Errorf("%s rows marked by the later walk, want 1", got)
	}
}

func TestOneOfThreeDeletedIsBelieved(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 3)
	w.backfill()
	w.agedRows()
	must1(w.sim.DeleteCustomerMeter(w.sim.Listed(w.orgs[0].ID)[1].ID))
	w.backfill()
	w.same()
	if got := w.deleted(); got != "1" {
		t.Errorf("%s rows marked, want 1", got)
	}
}

// TestRemovedVersionMarksNothingDeleted: Polar answers 404 to everything then, also
// to the request for a row that a walk has just missed.
func TestRemovedVersionMarksNothingDeleted(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 300)
	w.backfill()
	w.agedRows()
	gone := w.sim.Listed(w.orgs[0].ID)[50].ID
	must1(w.sim.DeleteCustomerMeter(gone))
	const says = "this API version is unknown to Polar or has been removed: polar.api_version is 2026-10"
	w.sim.Before(func(_ int, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, gone.String()) {
			w.sim.RemoveVersion("2026-10")
		}
	})
	for _, path := range []string{"get " + gone.String(), "list"} { // the first walk meets it when it asks for the row
		err := w.mirror().Backfill(t.Context())
		if !errors.Is(err, fetch.ErrWrongAddress) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := w.mirror().Lookup(t.Context(), gone); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("lookup: %v", err)
	}
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows were marked deleted", got)
	}
}

func TestArchivedMeterMarksNothingDeleted(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 1000)
	w.backfill()
	w.agedRows()
	meter := w.sim.Meters(w.orgs[0].ID)[0]
	n := must1(w.sim.ArchiveMeter(meter.ID))
	w.sim.ForgetRequests()
	w.backfill()
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows of an archived meter were marked deleted", got)
	}
	if got := w.value(`SELECT (archived_at IS NOT NULL)::text FROM polar.meters WHERE id = $1`, meter.ID); got != "true" {
		t.Error("the mirror does not know that the meter is archived")
	}
	if got, most := w.sim.RequestCount(), 20; got > most {
		t.Errorf("%d rows of one archived meter cost %d requests, want at most %d", n, got, most)
	}
	must1(w.sim.UnarchiveMeter(meter.ID))
	w.backfill()
	w.same()
}

func TestRowsOfAMeterThatIsNoLongerArchivedAreMarkedThoughNoneIsListed(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 300)
	w.backfill()
	w.agedRows()
	meter := w.sim.Meters(w.orgs[0].ID)[0]
	n := must1(w.sim.ArchiveMeter(meter.ID))
	w.backfill()
	must1(w.sim.UnarchiveMeter(meter.ID))
	for _, row := range w.sim.Listed(w.orgs[0].ID) {
		if row.MeterID == meter.ID {
			must1(w.sim.DeleteCustomerMeter(row.ID))
		}
	}
	w.backfill()
	w.same()
	if got := w.deleted(); got != strconv.Itoa(n) {
		t.Errorf("%s rows marked, want %d", got, n)
	}
}

func TestImplausibleDeletionsMarkNothingUnlessAccepted(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 1000)
	w.backfill()
	w.agedRows()
	for i, row := range w.sim.Listed(w.orgs[0].ID) {
		if i%10 < 6 {
			must1(w.sim.DeleteCustomerMeter(row.ID))
		}
	}
	var refused *DeletionError
	for range 2 {
		err := w.mirror().Backfill(t.Context())
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "--accept-deletions") {
			t.Fatalf("600 of 1,000 rows gone: %v", err)
		}
	}
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows were marked by a run that refused to", got)
	}
	w.backfill(func(o *Options) { o.AcceptDeletions = true })
	w.same()
	if got := w.deleted(); got != "600" {
		t.Errorf("%s rows marked, want 600", got)
	}
}

// TestDeletionsOfAStoppedRunAreNotCountedTwice: 150 of 1000 rows are gone, a few less
// than are allowed, and the run is stopped once it has marked the first 100 of them. The
// other 50 are few for the one that goes on.
func TestDeletionsOfAStoppedRunAreNotCountedTwice(t *testing.T) {
	t.Parallel()
	w := small(t, 1000)
	w.backfill()
	w.agedRows()
	for i, row := range w.sim.Listed(w.orgs[0].ID) {
		if i%20 < 3 {
			must1(w.sim.DeleteCustomerMeter(row.ID))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	gets := atomic.Int64{}
	w.sim.Before(func(_ int, r *http.Request) {
		if r.URL.Path != "/v1/customer-meters/" && gets.Add(1) == 145 {
			cancel()
		}
	})
	limit := func(o *Options) { o.MaxDeleteFraction, o.BlockRows = 0.16, 200 }
	if err := w.mirror(limit).Backfill(ctx); !errors.Is(err, ErrStopped) || w.deleted() != "100" {
		t.Fatalf("%s rows marked: %v", w.deleted(), err)
	}
	w.sim.Before(nil)
	w.backfill(limit)
	w.same()
	if got := w.deleted(); got != "150" {
		t.Errorf("%s rows marked, want 150", got)
	}
}

func TestOrganizationThatListsNothingIsAnError(t *testing.T) {
	t.Parallel()
	large(t)
	for _, rows := range []int{5, 250} {
		w := small(t, rows)
		w.backfill()
		w.agedRows()
		w.sim.FailWhen(func(int, *http.Request) polarsim.Fault { return polarsim.EmptyPages })
		var refused *DeletionError
		if err := w.mirror().Backfill(t.Context()); !errors.As(err, &refused) || !refused.Empty {
			t.Errorf("%d rows gone at once: %v", rows, err)
		}
		w.sim.FailWhen(nil)
		if got := w.deleted(); got != "0" {
			t.Errorf("an outage marked %s rows", got)
		}
		w.backfill()
		w.same()
	}
}

func TestRowThatComesBackIsNoLongerDeleted(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 300)
	w.backfill()
	w.value(`WITH marked AS (UPDATE polar.customer_meters SET deleted_at = now() - interval '1 minute' RETURNING 1) SELECT count(*)::text FROM marked`)
	w.backfill()
	w.same()
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows stay deleted though Polar lists them", got)
	}
}

func TestOlderStateWinsIfPolarInsists(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 300)
	rows := w.sim.Listed(w.orgs[0].ID)[:20]
	for _, row := range rows {
		must1(w.sim.Consume(row.ID, "3"))
	}
	w.backfill()
	for _, row := range rows {
		must1(w.sim.SetState(row.ID, row.Units, row.ModifiedAt))
	}
	w.backfill()
	w.same()
}

func TestWrongOrganizationIsToldFromAnEmptyOne(t *testing.T) {
	t.Parallel()
	w := two(t, 10)
	nobody := Filter{CustomerIDs: []uuid.UUID{uuid.New()}}
	for _, filter := range []Filter{{}, nobody} {
		wrong := func(o *Options) {
			o.Organizations = o.Organizations[:1]
			o.Organizations[0].ID, o.Organizations[0].Filter = mustID("11111111-1111-4111-8111-111111111111"), filter
		}
		if err := w.mirror(wrong).Backfill(t.Context()); err == nil || !strings.Contains(err.Error(), "its token cannot see organization 11111111") {
			t.Errorf("a token of another organization, filter %v: %v", filter, err)
		}
	}
	w.sim.SetToken(polarsim.Token{Secret: w.orgs[0].Token, Organizations: []uuid.UUID{w.orgs[1].ID, w.orgs[0].ID}})
	for i := range w.orgs {
		w.backfill(func(o *Options) {
			o.Organizations = o.Organizations[i : i+1]
			o.Organizations[0].Client, o.Organizations[0].Filter = w.clientWith(w.orgs[0].Token), nobody
		})
	}
}

func TestOrganizationIsLearnedFromItsToken(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	w.backfill(func(o *Options) { o.Organizations[0].ID = mustID("00000000-0000-0000-0000-000000000000") })
	w.same()
}
