package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// whole is a block that shows a stretch of the list: its new rows are copied if
// they are many.
func whole(rows []*polar.CustomerMeter) *store.Block {
	return &store.Block{CustomerMeters: rows, Region: &store.Region{FromStart: true, ToEnd: true}, RequestedAt: time.Now()}
}

func samples(t testing.TB, n int, changes ...func(*polar.CustomerMeter)) []*polar.CustomerMeter {
	t.Helper()
	var list []*polar.CustomerMeter
	for i := range n {
		list = append(list, sample(t, i, changes...))
	}
	return list
}

// content is everything that is stored, but for the times at which it was.
func content(t testing.TB, db *pgtest.Database) string {
	t.Helper()
	const sql = `
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT 'row ' || (to_jsonb(m) - '{first_seen_at,last_changed_at}'::text[])::text
        || (m.first_seen_at = m.last_changed_at) || ' ' || scale(m.consumed_units) || ' ' || scale(m.balance) AS line
      FROM polar.customer_meters m
    UNION ALL
    SELECT 'history ' || (to_jsonb(h) - 'observed_at')::text || (h.observed_at = m.last_changed_at)
      FROM polar.customer_meter_history h
      JOIN polar.customer_meters m ON m.id = h.customer_meter_id
    UNION ALL SELECT 'customer ' || (to_jsonb(c) - 'last_changed_at')::text FROM polar.customers c
    UNION ALL SELECT 'meter ' || (to_jsonb(t) - 'last_changed_at')::text FROM polar.meters t
    UNION ALL SELECT 'run ' || concat_ws(' ', rows_seen, rows_inserted, rows_updated, rows_unchanged) FROM polar.sync_runs
) AS all_of_it`
	return lookup(t, db, sql)
}

// TestCopiedRowsAreStoredAsWrittenOnes saves the same rows both ways.
func TestCopiedRowsAreStoredAsWrittenOnes(t *testing.T) {
	t.Parallel()
	list := listed(t, 600)
	text, other := "a\tb\\ \"c\" \n é", time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)
	for i, digits := range []string{"0", "-0.0", "1e-7", "12345678901234567890.123456789", "-9999.00010", "1e30", "10000"} {
		list[i].ConsumedUnits, list[i].Balance = decimal(t, digits), decimal(t, digits)
		list[i].Extra = fmt.Appendf(nil, `{"unknown":%s}`, digits)
	}
	list[0].CreditedUnits = -1 << 63
	c := *list[1].Customer
	c.ExternalID, c.Email, c.Name, c.BillingName, c.DeletedAt = &text, nil, &text, &text, other
	list[1].Customer = &c
	var stored [2]string
	for i, block := range []*store.Block{whole(list), {CustomerMeters: list, RequestedAt: time.Now()}} {
		s, db := open(t)
		saved := save(t, s, start(t, s, store.Full), block)
		if saved.Counts.RowsInserted != 600 {
			t.Fatalf("counts %+v, want 600 inserted", saved.Counts)
		}
		stored[i] = content(t, db)
	}
	if diff := cmp.Diff(stored[1], stored[0]); diff != "" {
		t.Errorf("copied rows differ (-written +copied):\n%s", diff)
	}
}

// TestEveryDifferenceFromTheStretchIsWritten changes one thing in each of some rows
// and saves them beside many that are stored just so.
func TestEveryDifferenceFromTheStretchIsWritten(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	save(t, s, run, whole(samples(t, 300)))
	stored := func(n int) string {
		return lookup(t, db, `SELECT to_jsonb(m)::text FROM polar.customer_meters m WHERE id = $1`, numbered('x', n))
	}
	changes := []struct {
		of     string
		change func(*polar.CustomerMeter)
	}{
		{"consumed units", consumed(t, "0.11")},
		{"credited units", func(m *polar.CustomerMeter) { m.CreditedUnits++ }},
		{"balance", func(m *polar.CustomerMeter) { m.Balance = decimal(t, "-99.9") }},
		{"modified at", modified(time.Microsecond)},
		{"extra", func(m *polar.CustomerMeter) { m.Extra = []byte(`{"a":1}`) }},
		{"customer", func(m *polar.CustomerMeter) { m.CustomerID, m.Customer.ID = numbered('c', 777), numbered('c', 777) }},
		{"meter", func(m *polar.CustomerMeter) { m.MeterID, m.Meter.ID = numbered('m', 777), numbered('m', 777) }},
		{"created at", func(m *polar.CustomerMeter) { m.CreatedAt = m.CreatedAt.Add(time.Microsecond) }},
	}
	next := samples(t, 300)
	var before []string
	for i, c := range changes {
		before = append(before, stored(150+i))
		c.change(next[150+i])
	}
	saved := save(t, s, run, whole(next))
	if want := (store.Counts{RowsSeen: 300, RowsUpdated: 8, RowsUnchanged: 292}); saved.Counts != want {
		t.Errorf("counts %+v, want %+v", saved.Counts, want)
	}
	for i, c := range changes {
		if stored(150+i) == before[i] {
			t.Errorf("%s: the row is stored as before", c.of)
		}
	}
}

// TestKnownRowOutsideTheStretchIsNotCopied: a row that the mirror has in another
// place of the list, or that a webhook brings while the block is saved, makes
// COPY fail on its key.
func TestKnownRowOutsideTheStretchIsNotCopied(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	known := sample(t, 100)
	save(t, s, run, &store.Block{CustomerMeters: rows(known)})
	exec(t, db, `UPDATE polar.customer_meters SET created_at = created_at - interval '1 year'`)
	list := samples(t, 300, modified(time.Hour))
	saved := save(t, s, run, &store.Block{
		CustomerMeters: list,
		Region:         &store.Region{Low: list[0].Key(), High: list[299].Key()},
	})
	if want := (store.Counts{RowsSeen: 300, RowsInserted: 299, RowsUpdated: 1}); saved.Counts != want {
		t.Errorf("counts %+v, want %+v", saved.Counts, want)
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', count(*), count(DISTINCT customer_meter_id)) FROM polar.customer_meter_history`); got != "301 300" {
		t.Errorf("history has %s, want 301 states of 300 rows", got)
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', rows_seen, rows_inserted, rows_updated, rows_unchanged) FROM polar.sync_runs`); got != "301 300 1 0" {
		t.Errorf("the run counts %s, want 301 300 1 0", got)
	}
}

func TestRefusedValueIsFoundAmongCopiedRows(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	list := samples(t, 300)
	list[17].Customer.Raw = []byte(`{"score":1e400000}`) // JSON, and no jsonb
	saved := save(t, s, run, whole(list))
	if saved.Counts.RowsInserted != 299 || saved.Counts.RowsRejected != 1 {
		t.Errorf("counts %+v, want 299 inserted and 1 rejected", saved.Counts)
	}
	if got := lookup(t, db, `SELECT customer_meter_id::text FROM polar.rejected_rows`); got != list[17].ID.String() {
		t.Errorf("rejected %s, want %s", got, list[17].ID)
	}
}

// TestBlockThatCantBeCopiedLeavesNothing: what is wrong shows in the last
// statement, when the rows are copied already.
func TestBlockThatCantBeCopiedLeavesNothing(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	exec(t, db, `ALTER TABLE polar.cursors ADD CONSTRAINT never CHECK (false)`)
	list := samples(t, 300)
	block := whole(list)
	block.Cursor = &store.Cursor{Low: list[0].Key(), Fingerprint: "f"}
	if _, err := s.SaveBlock(t.Context(), run, block); err == nil {
		t.Fatal("the cursor's constraint does not hold")
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', (SELECT count(*) FROM polar.customer_meters), (SELECT count(*) FROM polar.customers), (SELECT count(*) FROM polar.customer_meter_history))`); got != "0 0 0" {
		t.Errorf("rows, customers and history hold %s, want nothing", got)
	}
	exec(t, db, `ALTER TABLE polar.cursors DROP CONSTRAINT never`)
	if saved := save(t, s, run, whole(samples(t, 300))); saved.Counts.RowsInserted != 300 {
		t.Errorf("the session saves %+v afterwards, want 300 inserted", saved.Counts)
	}
}

// A countdown is a context that ends when it has been looked at n times.
type countdown struct {
	context.Context
	n    atomic.Int64
	done chan struct{}
}

func newCountdown(n int) *countdown {
	c := &countdown{Context: context.Background(), done: make(chan struct{})}
	c.n.Store(int64(n))
	return c
}

func (c *countdown) Done() <-chan struct{} {
	if c.n.Add(-1) == 0 {
		close(c.done)
	}
	return c.done
}

func (c *countdown) Err() error {
	if c.n.Load() <= 0 {
		return context.Canceled
	}
	return nil
}

// reopened returns a session as soon as the server has noticed that the last one is
// gone.
func reopened(t testing.TB, st *store.Store) *store.Session {
	t.Helper()
	for {
		s, err := st.Acquire(t.Context(), organization, false)
		if err == nil {
			t.Cleanup(s.Release)
			return s
		}
		if !errors.Is(err, store.ErrBusy) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestBlockStoppedBetweenStatementsLeavesNoTransaction stops a block at each point
// at which it looks whether it should. What the session does next, here the end
// of the run, must not be part of a transaction that nobody ends.
func TestBlockStoppedBetweenStatementsLeavesNoTransaction(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	list := samples(t, 200) // as many as it takes to be copied
	stopped, recorded := 0, 0
	openOn(t, st).Release()
	for n := 1; ; n++ {
		s := reopened(t, st)
		run := start(t, s, store.Full)
		if _, err := s.SaveBlock(newCountdown(n), run, whole(list)); err == nil {
			break
		}
		stopped++
		err := s.FinishRun(t.Context(), run, store.Outcome{Err: errors.New("stopped"), Stopped: true})
		s.Release()
		if err != nil {
			t.Errorf("stopped at look %d: the run's end is not recorded: %v", n, err)
			continue
		}
		recorded++
		if got := lookup(t, db, `SELECT status FROM polar.sync_runs WHERE id = $1`, run.ID); got != "abandoned" {
			t.Errorf("stopped at look %d: the run's end was recorded, and it is %s", n, got)
		}
		// Stopped while it commits, the block may be stored all the same.
		got := lookup(t, db, `SELECT count(*)::text FROM polar.customer_meters`)
		if got != "0" && got != "200" {
			t.Errorf("stopped at look %d: %s rows are stored", n, got)
		}
		if got != "0" {
			break
		}
	}
	if stopped < 10 || recorded == 0 {
		t.Errorf("stopped %d times, and the run's end recorded %d times after it: too seldom to say anything", stopped, recorded)
	}
}

// TestCopyCutShortLeavesNothing: where a COPY breaks off, its rows may still be
// being encoded, which the race detector would see.
func TestCopyCutShortLeavesNothing(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	list := samples(t, 500)
	stored := func() string {
		return lookup(t, db, `SELECT concat_ws(' ', (SELECT count(*) FROM polar.customer_meters), (SELECT count(*) FROM polar.customer_meter_history))`)
	}
	openOn(t, st).Release()
	for d := 5 * time.Millisecond; ; d += d / 2 {
		s := reopened(t, st)
		run := start(t, s, store.Full)
		ctx, cancel := context.WithTimeout(t.Context(), d)
		_, err := s.SaveBlock(ctx, run, whole(list))
		cancel()
		s.Release()
		if err == nil {
			break
		}
		// Cut off while it commits, the block may be stored all the same.
		if got := stored(); got != "0 0" {
			if got != "500 500" {
				t.Errorf("cut short after %s: %s rows and rows of history are stored", d, got)
			}
			break
		}
	}
	if got := stored(); got != "500 500" {
		t.Errorf("%s rows and rows of history in the end, want 500 each", got)
	}
}

// TestComparisonThatPostgresRefusesIsAnError: the look at the mirror's stretch can
// fail by itself, here at a lock.
func TestComparisonThatPostgresRefusesIsAnError(t *testing.T) {
	t.Parallel()
	s, db := openOwn(t)
	if rows, err := s.Query(t.Context(), `SELECT set_config('lock_timeout', '100', false)`); err != nil {
		t.Fatal(err)
	} else {
		rows.Close()
	}
	run := start(t, s, store.Full)
	save(t, s, run, whole(samples(t, 3))) // the statements are prepared
	locking, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer locking.Rollback(t.Context()) //nolint:errcheck // committed or not, nothing was written
	if _, err := locking.Exec(t.Context(), `LOCK TABLE polar.customer_meters`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveBlock(t.Context(), run, whole(samples(t, 4))); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("got %v, want the lock's time-out", err)
	}
	if err := locking.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if saved := save(t, s, run, whole(samples(t, 4))); saved.Counts.RowsInserted != 1 {
		t.Errorf("the session saves %+v afterwards, want one inserted", saved.Counts)
	}
}

// TestRowsOfOneStretchInAnyCombination compares a block with a mirror in which
// some of its rows are new, some changed, some older and some marked, copied or
// not, with what the same block does without a stretch.
func TestRowsOfOneStretchInAnyCombination(t *testing.T) {
	t.Parallel()
	large(t)
	s, db := openOwn(t)
	run := start(t, s, store.Full)
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.SampledFrom([]int{3, 3, 40, 210}).Draw(r, "rows")
		fate := rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(r, "fates")
		if rapid.Bool().Draw(r, "mostly new") {
			for i := range fate[:n-n/50] {
				fate[i] = 0
			}
		}
		var stored [2]string
		var counts [2]store.Counts
		for way, stretch := range []*store.Region{nil, {FromStart: true, ToEnd: true}} {
			for _, table := range []string{"suspects", "customer_meter_history", "customer_meters", "customers", "meters"} {
				exec(t, db, `DELETE FROM polar.`+table) // TRUNCATE makes new files for each partition
			}
			exec(t, db, `UPDATE polar.sync_runs SET rows_seen = 0, rows_inserted = 0, rows_updated = 0, rows_unchanged = 0`)
			var before []*polar.CustomerMeter
			marked := map[string][]uuid.UUID{}
			next := samples(t, n, modified(time.Hour))
			for i, f := range fate {
				switch f {
				case 0: // new
				case 1: // older
					before = append(before, sample(t, i, modified(time.Minute), consumed(t, "7")))
				case 2: // newer
					before = append(before, sample(t, i, modified(2*time.Hour), consumed(t, "7")))
				default: // the same
					before = append(before, sample(t, i, modified(time.Hour)))
				}
			}
			save(t, s, run, &store.Block{CustomerMeters: before})
			for i, f := range fate {
				switch f {
				case 4:
					marked["deleted_at"] = append(marked["deleted_at"], next[i].ID)
				case 5:
					marked["out_of_scope_at"] = append(marked["out_of_scope_at"], next[i].ID)
				}
			}
			for column, ids := range marked {
				exec(t, db, `UPDATE polar.customer_meters SET `+column+` = now() - interval '1 minute' WHERE id = ANY ($1)`, ids)
			}
			saved := save(t, s, run, &store.Block{CustomerMeters: next, Region: stretch, RequestedAt: time.Now()})
			stored[way], counts[way] = content(t, db), saved.Counts
			older := map[uuid.UUID]bool{}
			for _, id := range saved.Older {
				older[id] = true
			}
			for i, f := range fate {
				if older[next[i].ID] != (f == 2) {
					r.Fatalf("row %d, fate %d: reported as older: %v", i, f, older[next[i].ID])
				}
			}
		}
		if diff := cmp.Diff(stored[0], stored[1]); diff != "" {
			r.Errorf("stored otherwise (-without +with a stretch):\n%s", diff)
		}
		if diff := cmp.Diff(counts[0], counts[1]); diff != "" {
			r.Errorf("counted otherwise (-without +with a stretch):\n%s", diff)
		}
	})
}

// TestNumericIsWhatPostgresMakesOfTheDigits compares a number sent in binary with
// what Postgres makes of its text, scale included.
func TestNumericIsWhatPostgresMakesOfTheDigits(t *testing.T) {
	t.Parallel()
	_, db := open(t)
	ctx := t.Context()
	check := func(t rapid.TB, text string) {
		t.Helper()
		d, err := polar.ParseDecimal(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var got, want string
		if err := db.Pool.QueryRow(ctx, `SELECT $1::numeric::text, $2::text::numeric::text`, store.Numeric(d), text).Scan(&got, &want); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got != want {
			t.Errorf("%s arrives as %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{
		"0", "-0", "0.0", "-0.000", "0e5", "0e-5", "1", "-1", "10", "9999", "10000", "100000000", "1e4", "1e5", "1E+3", "1.5e1", "1.50e1",
		"0.1", "0.0001", "0.00001", "0.00010000", "1e-4", "1e-5", "123e-10", "12345.678900", "1e131071", "9e131071", "1e-16383", "1.0e-16382",
		"12345678901234567890.12345678901234567890", "1000000000000000000000000.00000000000000000001",
	} {
		check(t, text)
	}
	rapid.Check(t, func(r *rapid.T) {
		for range 3 {
			check(r, rapid.StringMatching(`-?(0|[1-9]0{0,6}[0-9]{0,12})(\.0{0,6}[0-9]{1,12}0{0,5})?([eE][+-]?[0-9]{1,3})?`).Draw(r, "number"))
		}
	})
}

// TestRowsOfTheBlockBeforeAreNeitherCopiedNorLocked: the pages of a walk overlap, so a
// block begins with rows that lie above its region and are stored.
func TestRowsOfTheBlockBeforeAreNeitherCopiedNorLocked(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	rows := listed(t, 1000)
	border := rows[500].Key()
	save(t, s, run, &store.Block{CustomerMeters: rows[500:], Region: &store.Region{Low: border, ToEnd: true}})
	saved := save(t, s, run, &store.Block{CustomerMeters: rows[:510], Region: &store.Region{High: border, FromStart: true}})
	if c := saved.Counts; c.RowsInserted != 500 || c.RowsUnchanged != 10 {
		t.Errorf("%d rows inserted and %d unchanged, want 500 and 10", c.RowsInserted, c.RowsUnchanged)
	}
	if got := lookup(t, db, `SELECT count(*) FROM polar.customer_meters WHERE xmax <> 0`); got != "0" {
		t.Errorf("%s unchanged rows were locked", got)
	}
}
