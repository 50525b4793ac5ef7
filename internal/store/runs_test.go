package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3/lock"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

func TestOneSessionPerOrganization(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	first := openOn(t, st)
	if second, err := st.Acquire(t.Context(), organization, false); !errors.Is(err, store.ErrBusy) {
		if err == nil {
			second.Release() // or the pool waits for it for ever
		}
		t.Fatalf("a second session was had while the first holds the lock: %v", err)
	}
	elsewhere, err := st.Acquire(t.Context(), numbered('o', 2), false)
	if err != nil {
		t.Fatalf("another organization's lock: %v", err)
	}
	elsewhere.Release()

	got := make(chan error, 1)
	go func() {
		waiting, err := st.Acquire(context.WithoutCancel(t.Context()), organization, true)
		if err == nil {
			waiting.Release()
		}
		got <- err
	}()
	first.Release()
	if err := <-got; err != nil {
		t.Errorf("waiting for the lock: %v", err)
	}
}

func TestLosingTheConnectionLosesLockAndWrites(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	session := openOn(t, st)
	run := start(t, session, store.Full)
	db.Disconnect(t, pgtest.LockHolders)
	_, err := session.SaveBlock(t.Context(), run, &store.Block{CustomerMeters: rows(sample(t, 1))})
	if !store.Broken(err) {
		t.Errorf("a block was written without the lock, or its loss not told: %v", err)
	}
	second, err := st.Acquire(t.Context(), organization, true)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release()
	start(t, second, store.Full)
	if got := lookup(t, db, `SELECT status FROM polar.sync_runs WHERE id = $1`, run.ID); got != "abandoned" {
		t.Errorf("the dead session's run is %s, want abandoned", got)
	}
}

func TestSlotIsAnsweredOnceUnlessItsFullRunFailed(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	slot := time.Now().Truncate(time.Minute)
	for _, kind := range []store.Kind{store.Full, store.Incremental} {
		run, err := s.StartRun(t.Context(), kind, slot)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.FinishRun(t.Context(), run, store.Outcome{Err: errors.New("no")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.StartRun(t.Context(), store.Incremental, slot); !errors.Is(err, store.ErrSlotTaken) {
		t.Errorf("a tick's slot was answered twice: %v", err)
	}
	run, err := s.StartRun(t.Context(), store.Full, slot)
	if err != nil {
		t.Fatalf("a failed full run is no longer due: %v", err)
	}
	if err := s.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartRun(t.Context(), store.Full, slot); !errors.Is(err, store.ErrSlotTaken) {
		t.Errorf("a full run's slot was answered twice: %v", err)
	}
}

func TestCursorMovesWithItsBlockAndFitsItsFingerprint(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	want := &store.Cursor{
		PolarBeganAt: epoch.Add(time.Second), Low: sample(t, 7).Key(),
		Offset: 1234, TotalCount: 5000, RowsRejected: 2, Fingerprint: "a",
		Method: store.Sweep, MeterID: numbered('m', 3), CustomerID: numbered('c', 4),
	}
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 7)), Cursor: want})
	got, err := s.LoadCursor(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cursor (-want +got):\n%s", diff)
	}
	// A run that ended now would not ask for the row whose older state was not written.
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 7, modified(-time.Hour))), Cursor: &store.Cursor{Low: sample(t, 6).Key(), Fingerprint: "a"}})
	if got, err = s.LoadCursor(t.Context(), "a"); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("the cursor has passed a row that is asked for again: %+v (%v)", got, err)
	}
	lookup(t, db, `INSERT INTO polar.suspects VALUES ($1, $2, $3) RETURNING 'x'`, organization, numbered('x', 1), numbered('m', 1))
	if got, err := s.LoadCursor(t.Context(), "b"); got != nil || err != nil {
		t.Errorf("a walk of something else goes on from cursor %+v (%v)", got, err)
	}
	if got := lookup(t, db, `SELECT count(*)::text FROM polar.suspects`); got != "0" {
		t.Error("suspects outlived their cursor")
	}
}

func TestFloorOfAWalkNeverMovesBackAndThatOfATickDoes(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	for _, step := range []struct {
		kind  store.Kind
		floor time.Time
		want  time.Time
	}{
		{store.Full, epoch, epoch},
		{store.Incremental, epoch.Add(time.Hour), epoch.Add(time.Hour)},
		{store.Full, epoch.Add(time.Minute), epoch.Add(time.Hour)},
		{store.Incremental, epoch.Add(time.Minute), epoch.Add(time.Minute)},
	} {
		run := start(t, s, step.kind)
		if err := s.FinishRun(t.Context(), run, store.Outcome{Floor: step.floor}); err != nil {
			t.Fatal(err)
		}
		got, err := s.LoadFloor(t.Context())
		if err != nil || !got.At.Equal(step.want) {
			t.Errorf("after %s begun at %v the floor is %v, want %v (%v)", step.kind, step.floor, got.At, step.want, err)
		}
	}
}

func TestMigrateAgainChangesNothing(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	n, err := st.Migrate(t.Context())
	if n != 0 || err != nil {
		t.Errorf("%d migrations applied again (%v)", n, err)
	}
	if got := lookup(t, db, `SELECT count(*)::text FROM pg_inherits WHERE inhparent = 'polar.customer_meter_history'::regclass`); got != "3" {
		t.Errorf("%s partitions, want this month's and two ahead", got)
	}
}

func TestMigrationThatIsToldToStopSaysSo(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	st := pgtest.OpenStore(t, db)
	holder, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, lock.DefaultLockID); err != nil { // as another replica that migrates
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := st.Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that its time was over", err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Error(err)
	}
}

func TestEverythingInTheSchemaHasAComment(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	got := lookup(t, db, `
SELECT string_agg(concat_ws('.', c.relname, a.attname), ', ')
  FROM pg_class c
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT c.relispartition
 WHERE c.relnamespace = 'polar'::regnamespace
   AND c.relkind IN ('r', 'p', 'v')
   AND (col_description(c.oid, a.attnum) IS NULL AND a.attnum IS NOT NULL OR obj_description(c.oid) IS NULL)`)
	if got != "null" {
		t.Errorf("without comment: %s", got)
	}
}

// TestEveryTableHasAPrimaryKeyThatIdentifiesItsRows: without one, Postgres
// refuses to update or delete rows of a table that is published.
func TestEveryTableHasAPrimaryKeyThatIdentifiesItsRows(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	got := lookup(t, db, `
SELECT string_agg(c.relname, ', ' ORDER BY c.relname)
  FROM pg_class c
 WHERE c.relnamespace = 'polar'::regnamespace
   AND c.relkind IN ('r', 'p')
   AND (c.relreplident <> 'd' OR NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid))`)
	if got != "null" {
		t.Errorf("without a primary key: %s", got)
	}
}

// TestCustomerMetersReferToTheirCustomerAndMeter: tools that read a schema find
// their joins by foreign keys.
func TestCustomerMetersReferToTheirCustomerAndMeter(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	got := lookup(t, db, `
SELECT string_agg(pg_get_constraintdef(oid), ', ' ORDER BY conname)
  FROM pg_constraint
 WHERE conrelid = 'polar.customer_meters'::regclass
   AND contype = 'f'
   AND convalidated`)
	const want = "FOREIGN KEY (customer_id) REFERENCES polar.customers(id), FOREIGN KEY (meter_id) REFERENCES polar.meters(id)"
	if got != want {
		t.Errorf("foreign keys %s, want %s", got, want)
	}
}

func TestBinaryOlderThanTheSchemaAllowsIsRefused(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	lookup(t, db, `UPDATE polar.schema_compatibility SET oldest_migration = 99999 RETURNING 'x'`)
	var schema *store.SchemaError
	if _, err := st.Migrate(t.Context()); !errors.As(err, &schema) {
		t.Errorf("got %v, want a refusal", err)
	}
	if err := st.Ready(t.Context()); !errors.As(err, &schema) {
		t.Errorf("ready on a schema that is too new: %v", err)
	}
}

func TestStatusTellsRowsRunsAndErrors(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: []*polar.CustomerMeter{sample(t, 1), sample(t, 2)}})
	exact := true
	if err := s.FinishRun(t.Context(), run, store.Outcome{Exact: &exact}); err != nil {
		t.Fatal(err)
	}
	failed := start(t, s, store.Incremental)
	if err := s.FinishRun(t.Context(), failed, store.Outcome{Err: errors.New("token\x00 rejected")}); err != nil {
		t.Fatal(err)
	}
	got := status(t, st)
	if got.Organization != "acme" || got.LiveRows != 2 || got.FullExact == nil || !*got.FullExact ||
		got.Failed.Message != "token\uFFFD rejected" || got.Age == nil || got.Running != "" {
		t.Errorf("status %+v", got)
	}
}

// TestOnlyTheEndOfARunWaitsForTheDisk looks at the setting during a block and
// during the end of a run, through a trigger that notes it.
func TestOnlyTheEndOfARunWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	s, db := openOwn(t)
	run := start(t, s, store.Full)
	const watch = `
CREATE TABLE public.seen (finished boolean, setting text);
CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen VALUES (NEW.status <> 'running', current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER look AFTER UPDATE ON polar.sync_runs FOR EACH ROW EXECUTE FUNCTION public.look()`
	if _, err := db.Pool.Exec(t.Context(), watch); err != nil {
		t.Fatal(err)
	}
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1))})
	if err := s.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
		t.Fatal(err)
	}
	const seen = `SELECT string_agg(DISTINCT finished || ' ' || setting, ', ' ORDER BY finished || ' ' || setting) FROM public.seen`
	if got, want := lookup(t, db, seen), "false off, true on"; got != want {
		t.Errorf("finished and setting: %s, want %s", got, want)
	}
}
