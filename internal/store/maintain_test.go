package store_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

func TestExpiredMonthsGoAndTheirLastStatesStay(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	idle, gone, busy := sample(t, 1), sample(t, 2), sample(t, 3)
	save(t, s, run, &store.Block{CustomerMeters: rows(idle, gone, busy)})
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.Pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`DELETE FROM polar.customer_meter_history`)
	for _, month := range []string{"2024_01", "2024_02"} {
		from := must1(time.Parse("2006_01", month))
		exec(`CREATE TABLE polar.customer_meter_history_` + month + ` PARTITION OF polar.customer_meter_history FOR VALUES FROM ('` +
			from.Format(time.DateOnly) + ` 00:00:00+00') TO ('` + from.AddDate(0, 1, 0).Format(time.DateOnly) + ` 00:00:00+00')`)
	}
	add := func(m int, at time.Time, consumed string, deleted bool) {
		t.Helper()
		exec(`INSERT INTO polar.customer_meter_history VALUES ($1, $2, 0, NULL, $3, $4, $5::text::numeric, 0, 'full')`,
			numbered('x', m), organization, at, deleted, consumed)
	}
	january, february := time.Date(2024, 1, 10, 0, 0, 0, 0, time.UTC), time.Date(2024, 2, 10, 0, 0, 0, 0, time.UTC)
	add(1, january, "1", false)
	add(1, january.Add(time.Hour), "2", false)
	add(2, january, "5", false)
	add(2, february, "5", true)
	add(3, february, "8", false)
	add(3, time.Now(), "9", false)

	keeping, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL), HistoryKeep: 24 * time.Hour * 365})
	if err != nil {
		t.Fatal(err)
	}
	defer keeping.Close()
	for range 2 { // the second time there is nothing left to do
		if err := keeping.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := lookup(t, db, `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname LIKE 'customer_meter_history_202_\___' AND relkind = 'r' AND relname < 'customer_meter_history_2025_01'`); got != "null" {
			t.Errorf("expired partitions left: %s", got)
		}
		got := lookup(t, db, `SELECT string_agg(concat_ws(':', right(customer_meter_id::text, 1), consumed_units), ' ' ORDER BY customer_meter_id) FROM polar.balances_at(now())`)
		if want := "1:2 3:9"; got != want {
			t.Errorf("balances now: %s, want %s", got, want)
		}
	}
}

// TestLastTickStaysHoweverLongAgo: nothing has run for longer than ticks that found
// nothing are kept. The age of the data and the slots that were left out count from it.
func TestLastTickStaysHoweverLongAgo(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	const day = 24 * time.Hour
	var slot time.Time
	for _, days := range []time.Duration{30, 29, 28} {
		slot = time.Now().Add(-days * day).Truncate(time.Second)
		run := must1(s.StartRun(t.Context(), store.Incremental, slot))
		if err := s.FinishRun(t.Context(), run, store.Outcome{}); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, db, `UPDATE polar.sync_runs SET started_at = slot, finished_at = slot`)
	if err := st.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if last := must1(s.LastSlot(t.Context(), store.Incremental)); !last.Equal(slot) {
		t.Errorf("last slot %v, want %v", last, slot)
	}
	if age := status(t, st).Age; age == nil || age.Round(day) != 28*day {
		t.Errorf("age %v, want 28 days", age)
	}
	if left := lookup(t, db, `SELECT count(*) FROM polar.sync_runs`); left != "1" {
		t.Errorf("%s ticks are left, want the last", left)
	}
}

// TestReaderOfAnExpiredMonthHoldsNothingUp: a transaction that was left open has read
// the history.
func TestReaderOfAnExpiredMonthHoldsNothingUp(t *testing.T) {
	t.Parallel()
	_, db := pgtest.NewStore(t)
	exec(t, db, `CREATE TABLE polar.customer_meter_history_2024_01 PARTITION OF polar.customer_meter_history FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')`)
	reader := must1(db.Pool.Begin(t.Context()))
	must1(reader.Exec(t.Context(), `SELECT count(*) FROM polar.customer_meter_history`))
	keeping := must1(store.Open(t.Context(), store.Options{URL: secret.New(db.URL), HistoryKeep: 24 * time.Hour * 365}))
	defer keeping.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := keeping.Migrate(ctx); err != nil {
		t.Errorf("a start: %v", err)
	}
	if err := keeping.Maintain(ctx); err == nil || !strings.Contains(err.Error(), "an open transaction has read it") {
		t.Errorf("maintenance: %v, want an error that says what it waits for", err)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := keeping.Maintain(ctx); err != nil {
		t.Error(err)
	}
	if got := lookup(t, db, `SELECT to_regclass('polar.customer_meter_history_2024_01')::text`); got != "null" {
		t.Errorf("%s is left", got)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestConcurrentWritersGiveEachChangeATimeOfItsOwn: a walk and webhooks change one
// row at once, though its last change is dated in the future.
func TestConcurrentWritersGiveEachChangeATimeOfItsOwn(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1))})
	future := time.Now().Add(time.Hour)
	if _, err := db.Pool.Exec(t.Context(), `WITH h AS (UPDATE polar.customer_meter_history SET observed_at = $1) UPDATE polar.customer_meters SET last_changed_at = $1`, future); err != nil {
		t.Fatal(err)
	}
	const changes = 25
	states := func(write func(*store.Block) error) func() error {
		return func() error {
			for n := range changes {
				// Of one age, so that each of them is written.
				if err := write(&store.Block{CustomerMeters: rows(sample(t, 1, consumed(t, strconv.Itoa(n))))}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var writers errgroup.Group
	for range 3 {
		writers.Go(states(func(b *store.Block) error {
			_, err := st.Apply(t.Context(), organization, store.Webhook, b)
			return err
		}))
	}
	writers.Go(states(func(b *store.Block) error {
		_, err := s.SaveBlock(t.Context(), run, b)
		return err
	}))
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MarkDeleted(t.Context(), run, []uuid.UUID{numbered('x', 1)}); err != nil {
		t.Fatal(err)
	}
	got := lookup(t, db, `
SELECT concat_ws(' ', count(*) > 25, count(DISTINCT h.observed_at) = count(*), min(h.observed_at) = $1, max(h.observed_at) = min(m.last_changed_at), bool_and(h.observed_at < $1::timestamptz + interval '1 second'))
  FROM polar.customer_meter_history h
  JOIN polar.customer_meters m ON m.id = h.customer_meter_id`, future)
	if got != "t t t t t" {
		t.Errorf("many changes, all at times of their own, from the future on, up to last_changed_at, a microsecond apart: %s", got)
	}
}
