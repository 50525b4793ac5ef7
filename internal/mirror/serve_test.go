package mirror

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// every is a schedule whose slots are multiples of it since the epoch.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(e)).Add(time.Duration(e))
}

// eventually waits for something that must happen, however slow the machine.
func (w *env) eventually(what string, happened func() bool) {
	w.Helper()
	eventually(w, what, happened)
}

func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for range 2400 {
		if happened() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s: not within two minutes", what)
}

func (w *env) ticks() int {
	w.Helper()
	n := 0
	for _, r := range w.runs() {
		if r == "incremental succeeded -" {
			n++
		}
	}
	return n
}

// serve runs replicas until the returned function is called, which waits for
// them to end.
func (w *env) serve(schedules Schedules, replicas ...*Mirror) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, m := range replicas {
		group.Go(func() {
			if err := m.Serve(ctx, schedules); err != nil {
				w.Errorf("serve: %v", err)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// scheduler is the scheduler of the first organization, as it is before it has begun.
func (w *env) scheduler(schedules Schedules, changes ...func(*Options)) *scheduler {
	w.Helper()
	m := w.mirror(changes...)
	return newScheduler(m.worker(m.opts.Organizations[0]), make(chan struct{}, 1), schedules)
}

func TestReplicasAnswerEachSlotOnceAndLeaveNoRunRunning(t *testing.T) {
	t.Parallel()
	w := quiet(t, 400, 0.3)
	other := pgtest.OpenStore(t, w.db)
	core, logs := observer.New(zap.DebugLevel)
	logged := func(o *Options) { o.Log = zap.New(core) }
	stop := w.serve(Schedules{Incremental: every(150 * time.Millisecond), Full: every(time.Second), RunOnStart: true},
		w.mirror(logged), w.mirror(logged, func(o *Options) { o.Store = other }), w.mirror(logged))
	changes := 0
	w.eventually("a number of ticks", func() bool {
		if changes < 200 {
			changes++
			must1(w.sim.Consume(w.sim.Listed(w.orgs[0].ID)[changes].ID, "0.25"))
		}
		return w.ticks() >= 10
	})
	stop()
	if got := w.value(`SELECT count(*)::text FROM polar.sync_runs WHERE status = 'running'`); got != "0" {
		t.Errorf("%s runs are left running", got)
	}
	if got := w.value(`SELECT count(*)::text FROM (SELECT FROM polar.sync_runs WHERE slot IS NOT NULL GROUP BY kind, slot HAVING count(*) > 1) twice`); got != "0" {
		t.Errorf("%s slots were answered more than once", got)
	}
	w.slotsOnce(150*time.Millisecond, logs)
	w.backfill()
	w.same()
}

func TestTicksRunBetweenTheBlocksOfALongWalk(t *testing.T) {
	t.Parallel()
	w := quiet(t, 3000, 0.3)
	w.backfill() // gives the ticks a floor
	w.sim.Before(func(int, *http.Request) { time.Sleep(5 * time.Millisecond) })
	s := w.scheduler(Schedules{Incremental: every(50 * time.Millisecond)}, func(o *Options) { o.BlockRows, o.PagesInFlight = 100, 1 })
	s.incremental.next = s.incremental.schedule.Next(time.Now())
	err := s.worker.withSession(t.Context(), false, func(session *store.Session) error {
		return s.fullWithTicks(t.Context(), session, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	got := w.value(`
SELECT count(*)::text
  FROM polar.sync_runs t
  JOIN polar.sync_runs f ON f.kind = 'full' AND t.started_at > f.started_at AND t.finished_at < f.finished_at
 WHERE t.kind = 'incremental' AND t.status = 'succeeded'`)
	if got == "0" {
		t.Errorf("no tick ran between the blocks of the walk: %v", w.runs())
	}
	w.same()
}

// TestResumedFullRunReadsWhatChangedSince: its data counts as from when it was resumed,
// and the next incremental run may be far away. It has not succeeded before.
func TestResumedFullRunReadsWhatChangedSince(t *testing.T) {
	t.Parallel()
	w := small(t, 900)
	w.cutShort()
	rows := w.sim.Listed(w.orgs[0].ID)
	must1(w.sim.Consume(rows[len(rows)-1].ID, "1")) // the newest, which was read first
	resume := func(ctx context.Context) {
		s := w.scheduler(Schedules{Incremental: every(24 * time.Hour)}, smallBlocks)
		s.fullDue = true
		s.runDue(ctx)
	}
	ctx, stop := context.WithCancel(t.Context())
	w.sim.Before(func(_ int, r *http.Request) {
		if slices.Equal(r.URL.Query()["sorting"], addedOrder()) { // the last step
			stop()
		}
	})
	resume(ctx)
	if got := w.runs(); ctx.Err() == nil || slices.Contains(got, "full succeeded true") {
		t.Errorf("stopped before it read what changed: %v", got)
	}
	w.sim.Before(nil)
	resume(t.Context())
	w.same()
}

func TestStoppedWalkSavesItsBlockAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 3000)
	ctx, cancel := context.WithCancel(t.Context())
	w.sim.Before(func(n int, _ *http.Request) {
		if n == 20 {
			cancel()
		}
	})
	slow := func(o *Options) { o.BlockRows = 500 }
	if err := w.mirror(slow).Backfill(ctx); err == nil {
		t.Fatal("a walk that was told to stop succeeded")
	}
	w.sim.Before(nil)
	if got := w.runs(); got[0] != "full abandoned false" {
		t.Errorf("runs %v, want the first abandoned", got)
	}
	if got := w.value(`SELECT count(*)::text FROM polar.cursors`); got != "1" {
		t.Fatalf("%s cursors, want the stopped walk's", got)
	}
	w.sim.ForgetRequests()
	w.backfill(slow)
	w.same()
	if got := w.sim.RequestCount(); got > 30 {
		t.Errorf("%d requests after the stop: the walk did not go on from its cursor", got)
	}
}

func TestFailedFullRunStaysDueAndSucceedsLater(t *testing.T) {
	t.Parallel()
	w := small(t, 150)
	w.sim.SetToken(polarsim.Token{Secret: w.orgs[0].Token, Expired: true})
	s := w.scheduler(Schedules{})
	s.fullDue, s.fullSlot = true, time.Now().Truncate(time.Hour)
	s.runDue(t.Context())
	if !s.fullDue || s.retryAt.IsZero() {
		t.Fatalf("after a failure: due %v, not before %v", s.fullDue, s.retryAt)
	}
	w.sim.SetToken(polarsim.Token{Secret: w.orgs[0].Token, Organizations: []uuid.UUID{w.orgs[0].ID}})
	s.retryAt = time.Time{}
	requests := w.sim.RequestCount()
	s.runDue(t.Context())
	if got := w.sim.RequestCount(); got != requests || !s.fullDue || !s.retryAt.After(time.Now()) {
		t.Errorf("%d requests right after a failure: due %v, not before %v", got-requests, s.fullDue, s.retryAt)
	}
	s.retryAt, s.tried = time.Time{}, false // as in a new process
	s.runDue(t.Context())
	if s.fullDue {
		t.Errorf("still due after it was done: %v", w.runs())
	}
	w.same()
}

// TestFailureDatedInTheFutureKeepsNoRetryWaiting: when it was, nobody knows.
func TestFailureDatedInTheFutureKeepsNoRetryWaiting(t *testing.T) {
	t.Parallel()
	w := small(t, 150)
	failing := true
	w.sim.FailWhen(func(int, *http.Request) polarsim.Fault {
		if failing {
			return polarsim.NotJSON
		}
		return polarsim.NoFault
	})
	s := w.scheduler(Schedules{})
	s.fullDue, s.fullSlot = true, time.Now().Truncate(time.Hour)
	s.runDue(t.Context())
	w.exec(`UPDATE polar.sync_runs SET started_at = started_at + interval '1 day', finished_at = finished_at + interval '1 day'`)
	failing, s.retryAt = false, time.Time{}
	s.runDue(t.Context())
	if s.fullDue {
		t.Errorf("not tried again before %v, runs %v", s.retryAt, w.runs())
	}
	w.same()
}

// TestBackfillSaysForWhomItWaits: another process may work on the organization for hours.
func TestBackfillSaysForWhomItWaits(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	w.backfill()
	held, err := w.store.Acquire(t.Context(), w.orgs[0].ID, false)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	core, logs := observer.New(zap.InfoLevel)
	done := make(chan error, 1)
	go func() {
		done <- w.mirror(func(o *Options) { o.Log = zap.New(core) }).Backfill(t.Context())
	}()
	w.eventually("a line", func() bool { return logs.FilterMessage("waiting for another syncd").Len() == 1 })
	held.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestResumedFirstLoadLooksForChangesWhereTheyAre: no tick has counted the rows that never
// changed, which come before them, but the mirror has them. The next tick need not look
// for the same changes.
func TestResumedFirstLoadLooksForChangesWhereTheyAre(t *testing.T) {
	t.Parallel()
	w := quiet(t, 3000, 0.6)
	w.cutShort()
	w.exec(`UPDATE polar.cursors SET polar_began_at = polar_began_at - interval '20 hours'`)
	w.resumedReadsOnePageOfChanges()
	if got := w.value(`SELECT (floor_at > now() - interval '1 hour')::text FROM polar.tick_floors`); got != "true" {
		t.Error("the next tick looks for the same changes again")
	}
}

// resumedReadsOnePageOfChanges makes a full run, which is resumed, and fails the test
// unless one page shows all that changed since the run first began.
func (w *env) resumedReadsOnePageOfChanges() {
	w.Helper()
	pages := 0
	w.sim.Before(func(_ int, r *http.Request) {
		if slices.Equal(r.URL.Query()["sorting"], changedOrder()) {
			pages++
		}
	})
	if err := w.full(smallBlocks); err != nil {
		w.Fatal(err)
	}
	if pages != 1 {
		w.Errorf("%d pages in the order of change, want 1", pages)
	}
}

// TestResumedFullRunDoesNotReadAgainWhatTicksHaveRead: there may be hours of it.
func TestResumedFullRunDoesNotReadAgainWhatTicksHaveRead(t *testing.T) {
	t.Parallel()
	w := quiet(t, 3000, 0.4)
	for i, row := range w.sim.Listed(w.orgs[0].ID)[:1000] {
		must1(w.sim.ConsumeLate(row.ID, "1", time.Now().Add(-10*time.Hour+time.Duration(i)*time.Second)))
	}
	w.backfill()
	w.cutShort()
	w.exec(`UPDATE polar.cursors SET polar_began_at = polar_began_at - interval '20 hours'`)
	if err := w.tick(); err != nil {
		t.Fatal(err)
	}
	w.resumedReadsOnePageOfChanges()
}
