package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// clientWith is a client with another token, which soon gives up.
func (w *env) clientWith(token string) *fetch.Client {
	c, err := fetch.New(fetch.Options{Organization: "acme", BaseURL: "https://polar.test",
		Token: fetch.StaticToken(secret.New(token)), Transport: w.sim.Transport(),
		Retry: fetch.Retry{InitialInterval: time.Millisecond, MaxInterval: 5 * time.Millisecond, MaxElapsedTime: 50 * time.Millisecond}})
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func two(t testing.TB, rows int) *env {
	t.Helper()
	w := newEnv(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{
		{Name: "acme", CustomerMeters: rows}, {Name: "other", CustomerMeters: 50}}})
	return w
}

// Two rows of another organization on one page.
func TestTwoForeignRowsOnAPageAreRejectedNotFatal(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	for _, i := range []int{10, 20} {
		row := w.sim.Listed(w.orgs[0].ID)[i]
		must1(w.sim.SetRaw(row.ID, strings.ReplaceAll(row.JSON, w.orgs[0].ID.String(), "11111111-1111-4111-8111-111111111111")))
	}
	w.backfill()
	if got := w.value(`SELECT concat_ws(' ', (SELECT count(*) FROM polar.rejected_rows WHERE reason LIKE 'belongs to organization%'), (SELECT count(*) FROM polar.customer_meters))`); got != "2 48" {
		t.Errorf("rejected and mirrored rows: %s, want 2 48", got)
	}
}

// An outage that answers with empty pages begins in the middle of the very
// first walk, when no row of the mirror could be missed yet.
func TestListThatBecomesEmptyDuringTheFirstWalkIsNotExact(t *testing.T) {
	t.Parallel()
	w := small(t, 1000)
	w.sim.FailWhen(func(n int, _ *http.Request) polarsim.Fault {
		if n > 5 {
			return polarsim.EmptyPages
		}
		return polarsim.NoFault
	})
	if err := w.mirror(func(o *Options) { o.PagesInFlight = 1 }).Backfill(t.Context()); err == nil {
		t.Errorf("a walk that saw a part of the list succeeded: %v", w.runs())
	}
	w.sim.FailWhen(nil)
	w.backfill()
	w.same()
}

// Verify --repair with a token of another organization.
func TestVerifyRepairWithAWrongTokenMarksNothing(t *testing.T) {
	t.Parallel()
	w := two(t, 1000)
	w.backfill()
	w.agedRows()
	wrong := w.clientWith(w.orgs[1].Token)
	m := w.mirror(func(o *Options) { o.Organizations = o.Organizations[:1]; o.Organizations[0].Client = wrong })
	_, err := m.Verify(t.Context(), true)
	if got := w.deleted(); got != "0" || err == nil {
		t.Errorf("%s rows marked deleted that Polar has (err %v)", got, err)
	}
}

// A walk resumed with a token of another organization.
func TestWalkResumedWithAWrongTokenMarksNothing(t *testing.T) {
	t.Parallel()
	w := two(t, 1000)
	only := func(o *Options) { o.Organizations = o.Organizations[:1]; o.BlockRows = 100; o.PagesInFlight = 1 }
	w.backfill(only)
	w.agedRows()
	// The walk is stopped near its end.
	ctx, cancel := context.WithCancel(t.Context())
	w.sim.ForgetRequests()
	start := 0
	w.sim.Before(func(n int, _ *http.Request) {
		if start == 0 {
			start = n
		}
		if n == start+9 {
			cancel()
		}
	})
	err := w.mirror(only).Backfill(ctx)
	w.sim.Before(nil)
	left := w.value(`SELECT low_offset::text FROM polar.cursors`)
	t.Logf("stopped: %v; offset left %s", err, left)
	wrong := w.clientWith(w.orgs[1].Token)
	err = w.mirror(only, func(o *Options) { o.Organizations[0].Client = wrong }).Backfill(t.Context())
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows marked deleted that Polar has; run ended with %v; %v", got, err, w.runs())
	}
	if err == nil {
		t.Error("a walk with a wrong token succeeded")
	}
}

// A forced answer (an older one, insisted on) overtaken by a webhook.
func TestForcedAnswerDoesNotOverwriteAWebhookThatCameAfterIt(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	row := w.sim.Listed(w.orgs[0].ID)[3]
	must1(w.sim.Consume(row.ID, "3"))
	w.backfill()
	must1(w.sim.SetState(row.ID, row.Units, row.ModifiedAt)) // Polar's database was restored: the row is asked for by get
	old, _, _ := polar.DecodeCustomerMeter([]byte(must2(w.sim.Find(row.ID)).JSON))
	m := w.mirror()
	wk := m.worker(m.opts.Organizations[0])
	err := wk.withSession(t.Context(), false, func(s *store.Session) error {
		j, err := wk.start(t.Context(), s, store.Full, time.Time{})
		if err != nil {
			return err
		}
		if err := j.saveSingles(t.Context(), []*fetch.Single{{CustomerMeter: old, Timing: fetch.Timing{Began: time.Now()}}}, false); err != nil {
			return err
		}
		began := time.Now()
		// ... Polar answered the get with `old`; before it is saved the row changes and its webhook is applied.
		must1(w.sim.Consume(row.ID, "100"))
		newer, _, _ := polar.DecodeCustomerMeter([]byte(must2(w.sim.Find(row.ID)).JSON))
		// newer by time than anything before
		newer.ModifiedAt = time.Now().UTC().Truncate(time.Microsecond)
		if _, err := w.store.Apply(t.Context(), w.orgs[0].ID, store.Webhook, &store.Block{CustomerMeters: []*polar.CustomerMeter{newer}}); err != nil {
			return err
		}
		before := w.value(`SELECT balance::text FROM polar.customer_meters WHERE id=$1`, row.ID)
		if err := j.saveSingles(t.Context(), []*fetch.Single{{CustomerMeter: old, Timing: fetch.Timing{Began: began}}}, false); err != nil {
			return err
		}
		after := w.value(`SELECT balance::text FROM polar.customer_meters WHERE id=$1`, row.ID)
		if before != after {
			t.Errorf("an answer from before the webhook overwrote it: balance %s -> %s", before, after)
		}
		return j.finish(t.Context(), store.Outcome{})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func must2[T any](v T, ok bool) T {
	if !ok {
		panic("not found")
	}
	return v
}

// The sample of an archived meter is itself gone.
func TestArchivedMeterIsRecognisedThoughItsFirstSuspectIsGone(t *testing.T) {
	t.Parallel()
	w := small(t, 1000)
	w.backfill()
	w.agedRows()
	org := w.orgs[0].ID
	meter := w.sim.Meters(org)[0]
	var first uuid.UUID
	for _, r := range w.sim.Listed(org) {
		if r.MeterID == meter.ID && (first == uuid.Nil || strings.Compare(r.ID.String(), first.String()) < 0) {
			first = r.ID
		}
	}
	must1(w.sim.DeleteCustomerMeter(first))
	n := must1(w.sim.ArchiveMeter(meter.ID))
	w.sim.ForgetRequests()
	err := w.mirror().Backfill(t.Context())
	t.Logf("%d rows archived, %d requests, err %v", n, w.sim.RequestCount(), err)
	if err != nil || w.sim.RequestCount() > 30 {
		t.Errorf("archived meter not recognised: %d requests, %v", w.sim.RequestCount(), err)
	}
}

// A big meter is archived while the walk is stopped (or between first page and descent).
func TestListShrinksByThousandsWhileStopped(t *testing.T) {
	t.Parallel()
	large(t)
	w := newEnv(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 12000, Meters: 3}}})
	org := w.orgs[0].ID
	var once atomic.Bool
	w.sim.Before(func(n int, _ *http.Request) {
		if n == 2 && once.CompareAndSwap(false, true) {
			k := must1(w.sim.ArchiveMeter(w.sim.Meters(org)[0].ID))
			k += must1(w.sim.ArchiveMeter(w.sim.Meters(org)[1].ID))
			t.Logf("archived %d", k)
		}
	})
	if err := w.mirror().Backfill(t.Context()); err != nil {
		t.Errorf("%v after %d requests", err, w.sim.RequestCount())
	}
}

// Six thousand rows come back below the position.
func TestSixThousandRowsUnarchivedBelow(t *testing.T) {
	t.Parallel()
	large(t)
	w := newEnv(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 12000, Meters: 2}}})
	org := w.orgs[0].ID
	must1(w.sim.ArchiveMeter(w.sim.Meters(org)[0].ID))
	t.Logf("listed %d", len(w.sim.Listed(org)))
	var mu sync.Mutex // requests come side by side
	n0, flaps := 0, 0
	w.sim.Before(func(n int, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n0 = max(n0, n)
		if n%30 == 20 && flaps < 3 {
			flaps++
			must1(w.sim.UnarchiveMeter(w.sim.Meters(org)[0].ID))
		}
		if n%30 == 0 && flaps < 3 {
			must1(w.sim.ArchiveMeter(w.sim.Meters(org)[0].ID))
		}
	})
	err := w.mirror().Backfill(t.Context())
	t.Logf("%d requests for %d rows, listed %d: %v", n0, 12000, len(w.sim.Listed(org)), err)
	w.sim.Before(nil)
	if err != nil {
		t.Error(err)
	}
}

// A second look that is older than the mirror is no difference.
func TestVerifyDoesNotBlameAMirrorThatIsNewerThanItsOwnLook(t *testing.T) {
	t.Parallel()
	w := quiet(t, 250, -1)
	w.backfill()
	rows := w.sim.Listed(w.orgs[0].ID)
	a, b := rows[10], rows[20]
	m := w.mirror(func(o *Options) { o.PagesInFlight = 1 })
	wk := m.worker(m.opts.Organizations[0])
	au := &audit{reader: wk.reader(&fetch.Counters{}), report: &Report{}}
	au.candidates = []uuid.UUID{a.ID, b.ID}
	gets := 0
	ticking := false
	first := a
	if strings.Compare(b.ID.String(), a.ID.String()) < 0 {
		first = b
	}
	w.sim.Before(func(_ int, r *http.Request) {
		if ticking || strings.HasSuffix(r.URL.Path, "/customer-meters/") {
			return
		}
		gets++
		if gets == 2 {
			ticking = true
			must1(w.sim.Consume(first.ID, "7"))
			if err := w.tick(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := au.confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(au.report.Findings) > 0 {
		t.Errorf("findings %+v", au.report.Findings)
	}
}

// Last_error after a failed full run and a successful tick.
func TestFailedFullRunStaysVisibleAfterASuccessfulTick(t *testing.T) {
	t.Parallel()
	w := quiet(t, 1000, 0.3)
	w.backfill()
	w.sim.FailWhen(func(int, *http.Request) polarsim.Fault { return polarsim.WrongOrder })
	if err := w.mirror().Backfill(t.Context()); err == nil {
		t.Fatal("no error")
	}
	w.sim.FailWhen(nil)
	if err := w.tick(); err != nil {
		t.Fatal(err)
	}
	if got := w.value(`SELECT last_error FROM polar.sync_status`); got == "null" {
		t.Errorf("the full run failed and has not succeeded since, yet sync_status.last_error is null; runs %v", w.runs())
	}
}

// A webhook that arrives after the deletion was marked.
func TestLateWebhookDoesNotReviveADeletedRow(t *testing.T) {
	t.Parallel()
	w := small(t, 200)
	w.backfill()
	w.agedRows()
	row := w.sim.Listed(w.orgs[0].ID)[5]
	m, _, _ := polar.DecodeCustomerMeter([]byte(row.JSON)) // on its way
	must1(w.sim.DeleteCustomerMeter(row.ID))
	w.backfill()
	if w.deleted() != "1" {
		t.Fatal("not marked")
	}
	if _, err := w.store.Apply(t.Context(), w.orgs[0].ID, store.Webhook, &store.Block{CustomerMeters: []*polar.CustomerMeter{m}}); err != nil {
		t.Fatal(err)
	}
	if got := w.deleted(); got != "1" {
		t.Errorf("a late webhook revived a row that Polar does not have: %s marked", got)
	}
}

// Stopped while Postgres holds up the block.
func TestStopDuringASaveKeepsTheBlockAndRecordsTheRun(t *testing.T) {
	t.Parallel()
	w := small(t, 1000)
	w.backfill()
	for _, r := range w.sim.Listed(w.orgs[0].ID) {
		must1(w.sim.Consume(r.ID, "1"))
	}
	tx, err := w.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM polar.customer_meters ORDER BY id LIMIT 1 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.mirror().Backfill(ctx) }()
	for w.value(`SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type='Lock' AND datname=current_database()`) == "0" {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	time.Sleep(200 * time.Millisecond)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = <-done
	t.Logf("backfill: %v; runs %v", err, w.runs())
	if !errors.Is(err, ErrStopped) || strings.Contains(fmt.Sprint(w.runs()), "running") {
		t.Errorf("the run is not recorded as stopped: %v", w.runs())
	}
	if got := w.value(`SELECT count(*)::text FROM polar.customer_meter_history`); got != "2000" {
		t.Errorf("the block in hand was lost: %s history rows", got)
	}
}
