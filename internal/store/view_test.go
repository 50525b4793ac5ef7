package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// view calls use with a snapshot that has plenty of time.
func view(t testing.TB, st *store.Store, use func(context.Context, *store.View) error) {
	t.Helper()
	err := st.View(t.Context(), time.Minute, func(v *store.View) error { return use(t.Context(), v) })
	if err != nil {
		t.Fatal(err)
	}
}

// status is how the only organization stands, its rows counted.
func status(t testing.TB, st *store.Store) store.OrgStatus {
	t.Helper()
	list, err := st.OrgStatus(t.Context(), store.OrgStatusQuery{CountRows: true})
	if err != nil || len(list) != 1 {
		t.Fatalf("status of %d organizations, want 1 (%v)", len(list), err)
	}
	return list[0]
}

// activity is what is being done for the organization.
func activity(t testing.TB, st *store.Store) store.Activity {
	t.Helper()
	var all map[uuid.UUID]store.Activity
	view(t, st, func(ctx context.Context, v *store.View) (err error) {
		all, err = v.Activity(ctx)
		return err
	})
	return all[organization]
}

// exec runs statements that return nothing.
func exec(t testing.TB, db *pgtest.Database, sql string, args ...any) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestActivityTellsARunUnderWayFromOneWhoseProcessIsGone(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{
		CustomerMeters: rows(sample(t, 1), sample(t, 2)),
		Cursor:         &store.Cursor{Offset: 700, TotalCount: 1000, Fingerprint: "x"},
	})
	sweep := &store.Cursor{Offset: 100, TotalCount: 1000, Fingerprint: "x", Method: store.Sweep, CustomerID: numbered('c', 1)}
	save(t, s, run, &store.Block{Cursor: sweep})
	if w := activity(t, st).Running[0]; w.Remaining != 900 || w.Total != 1000 {
		t.Errorf("sweep that has read 100 of 1,000 rows: %+v", w)
	}
	save(t, s, run, &store.Block{Cursor: &store.Cursor{Offset: 700, TotalCount: 1000, Fingerprint: "x"}})
	tick := start(t, s, store.Incremental)

	got := activity(t, st).Running
	if len(got) != 2 || got[0].ID != run.ID || got[1].ID != tick.ID {
		t.Fatalf("running %+v, want the walk %d and then the tick %d", got, run.ID, tick.ID)
	}
	if w := got[0]; !w.Held || w.Remaining != 700 || w.Total != 1000 || w.Counts.RowsSeen != 2 {
		t.Errorf("walk under way: %+v", w)
	}
	if tick := got[1]; !tick.Held || tick.Total != 0 {
		t.Errorf("tick under way: %+v", tick)
	}

	s.Release() // as the end of the process does
	for _, r := range activity(t, st).Running {
		if r.Held {
			t.Errorf("run %d is said to go on, and nobody holds the lock", r.ID)
		}
	}
}

func TestOrgStatusForgetsAFailureOnceItIsMadeGood(t *testing.T) {
	t.Parallel()
	st, _ := pgtest.NewStore(t)
	s := openOn(t, st)
	exact := true
	finish := func(kind store.Kind, o store.Outcome) {
		t.Helper()

		if err := s.FinishRun(t.Context(), start(t, s, kind), o); err != nil {
			t.Fatal(err)
		}
	}
	finish(store.Full, store.Outcome{Exact: &exact, Counts: store.Counts{Requests: 120}})
	finish(store.Incremental, store.Outcome{Err: errors.New("no answer")})
	got := status(t, st)
	if got.Failed.Message != "no answer" || got.Failed.Kind != store.Incremental || got.Failed.At.IsZero() {
		t.Errorf("failure %+v, want that of the tick", got.Failed)
	}
	if got.FullExact == nil || !*got.FullExact || got.LastExact != got.LastFull || got.LastIncremental.ID != 0 {
		t.Errorf("status %+v, want one exact full run and no tick", got)
	}
	finish(store.Incremental, store.Outcome{Counts: store.Counts{Requests: 3}})
	got = status(t, st)
	if got.Failing() || got.LastIncremental.Finished.IsZero() {
		t.Errorf("status after a tick that succeeded: %+v", got)
	}
	if got := activity(t, st).Requests; got < 122.99 || got > 123.01 {
		t.Errorf("%v requests in the last minute, want the 123 that were sent in it", got)
	}
}

// TestRequestsOfALongRunCountForTheLastMinuteOnly: a run of ten minutes that sent
// 1,000 requests sent 100 in the last of them.
func TestRequestsOfALongRunCountForTheLastMinuteOnly(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	openOn(t, st)
	exec(t, db, `
INSERT INTO polar.sync_runs (organization_id, started_at, finished_at, requests, kind, status)
VALUES ($1, now() - interval '10 minutes', now(), 1000, 'full', 'succeeded'),
       ($1, now() - interval '9 minutes', now() - interval '2 minutes', 5000, 'incremental', 'succeeded')`, organization)
	if got := activity(t, st).Requests; got < 95 || got > 100 {
		t.Errorf("%v requests, want a little under 100", got)
	}
}

// TestUsageIsTheDifferenceBetweenStates counts daily usage by hand from a history of
// all kinds of changes.
func TestUsageIsTheDifferenceBetweenStates(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	var block []*polar.CustomerMeter
	for n := range 20 {
		block = append(block, sample(t, n))
	}
	save(t, s, run, &store.Block{CustomerMeters: block})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first := monthStart(time.Now())
	const days = 40 // over the border of a month: its partition is there already
	randomHistory(t, db, rand.New(rand.NewPCG(seed, 0)), first, days)

	history, err := db.Pool.Query(t.Context(), `
SELECT
    m.id,
    m.meter_id,
    m.created_at,
    h.observed_at,
    h.source,
    (8 * h.consumed_units)::bigint,
    h.credited_units
  FROM polar.customer_meter_history h
  JOIN polar.customer_meters m ON m.id = h.customer_meter_id
 ORDER BY m.id, h.observed_at`)
	if err != nil {
		t.Fatal(err)
	}
	type usage struct{ eighths, credited, resets int64 }
	want := map[string]usage{}
	var row, last struct {
		ID, Meter         uuid.UUID
		CreatedAt, At     time.Time
		Source            string
		Eighths, Credited int64
	}
	for history.Next() {
		if err := history.Scan(&row.ID, &row.Meter, &row.CreatedAt, &row.At, &row.Source, &row.Eighths, &row.Credited); err != nil {
			t.Fatal(err)
		}
		day := row.At.UTC().Format(time.DateOnly)
		u := usage{row.Eighths - last.Eighths, row.Credited - last.Credited, 0}
		switch {
		case row.ID != last.ID && row.CreatedAt.UTC().Format(time.DateOnly) == day:
			u = usage{row.Eighths, row.Credited, 0}
		case row.ID != last.ID:
			u = usage{} // where counting begins
		case u.eighths < 0:
			u.eighths, u.resets = row.Eighths, 1
			if u.credited < 0 {
				u.credited = row.Credited
			}
		}
		if row.Source != "carried" {
			key := row.Meter.String() + " " + day
			sum := want[key]
			want[key] = usage{sum.eighths + u.eighths, sum.credited + u.credited, sum.resets + u.resets}
		}
		last = row
	}
	if err := history.Err(); err != nil {
		t.Fatal(err)
	}
	for day := range days + 1 {
		got, wanted := map[string]string{}, map[string]string{}
		from := first.AddDate(0, 0, day)
		view(t, st, func(ctx context.Context, v *store.View) error {
			list, err := v.Usage(ctx, organization, from.Add(time.Hour), from.AddDate(0, 0, 1)) // of the days, whatever the time
			for _, u := range list {
				consumed, _ := new(big.Rat).SetString(u.Consumed)
				got[u.MeterID.String()+" "+u.Day.Format(time.DateOnly)] = fmt.Sprint(consumed.Mul(consumed, big.NewRat(8, 1)).RatString(), u.Credited, u.Resets)
			}
			return err
		})
		for key, u := range want {
			if strings.HasSuffix(key, from.Format(time.DateOnly)) {
				wanted[key] = fmt.Sprint(fmt.Sprint(u.eighths), fmt.Sprint(u.credited), u.resets)
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Fatalf("%s (-by hand +Usage):\n%s", from.Format(time.DateOnly), diff)
		}
	}
}

// randomHistory puts changes of all kinds in place of the history: use, resets,
// credits taken back, deletions, carried states, births.
func randomHistory(t *testing.T, db *pgtest.Database, chance *rand.Rand, first time.Time, days int) {
	t.Helper()
	exec(t, db, `DELETE FROM polar.customer_meter_history`)
	for _, id := range texts(t, db, `SELECT id::text FROM polar.customer_meters`) {
		at := first.Add(time.Duration(chance.Int64N(int64(days) * int64(24*time.Hour))))
		born := at.Add(-time.Duration(chance.Int64N(int64(48 * time.Hour))))
		exec(t, db, `UPDATE polar.customer_meters SET created_at = $2, first_seen_at = $3 WHERE id = $1`, id, born, at)
		consumed, credited := chance.IntN(100), chance.IntN(1000)
		for at.Before(first.AddDate(0, 0, days)) {
			source, deleted := "incremental", chance.IntN(30) == 0
			if chance.IntN(12) == 0 {
				source = "carried"
			}
			exec(t, db, `
INSERT INTO polar.customer_meter_history (customer_meter_id, organization_id, credited_units, observed_at, deleted, consumed_units, balance, source)
VALUES ($1, $2, $3, $4, $5, $6::text::numeric / 8, 0, $7)`, id, organization, credited, at, deleted, fmt.Sprint(consumed), source)
			switch chance.IntN(8) {
			case 0:
				consumed = chance.IntN(5)
			case 1:
				credited = chance.IntN(1000)
			default:
				consumed += chance.IntN(50)
			}
			at = at.Add(time.Duration(1 + chance.Int64N(int64(60*time.Hour))))
		}
	}
}

func monthStart(t time.Time) time.Time {
	return time.Date(t.UTC().Year(), t.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
}

// texts runs a query that returns one column of texts.
func texts(t testing.TB, db *pgtest.Database, sql string, args ...any) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestBalancesAreThoseOfBalancesAt(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	var ids []uuid.UUID
	var block []*polar.CustomerMeter
	for n := range 6 {
		block = append(block, sample(t, n))
		ids = append(ids, block[n].ID)
	}
	save(t, s, run, &store.Block{CustomerMeters: block})
	first := monthStart(time.Now())
	randomHistory(t, db, rand.New(rand.NewPCG(3, 4)), first, 20)
	exec(t, db, `UPDATE polar.customer_meter_history SET balance = extract(epoch FROM observed_at)::bigint % 1000`)
	view(t, st, func(ctx context.Context, v *store.View) error {
		points, err := v.Balances(ctx, ids, first, first.AddDate(0, 0, 20), 21)
		if len(points) != 6*21 {
			t.Errorf("%d points, want 21 for each of 6", len(points))
		}
		for _, p := range points {
			want := lookup(t, db, `SELECT coalesce((SELECT b.balance::text FROM polar.balances_at($1) b WHERE b.customer_meter_id = $2), '')`, p.At, p.CustomerMeterID)
			if p.Balance != want {
				t.Errorf("balance of %s at %s: %q, want %q", p.CustomerMeterID, p.At, p.Balance, want)
			}
		}
		return err
	})
}

func TestViewEndsAStatementThatTakesTooLong(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `LOCK TABLE polar.customers IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	err = st.View(t.Context(), 50*time.Millisecond, func(v *store.View) error {
		_, err := v.CountCustomers(t.Context(), uuid.Nil)
		return err
	})
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "57014" {
		t.Errorf("%v, want the server to cancel the statement (57014)", err)
	}
}

func TestViewCannotWrite(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	exec(t, db, `
ALTER TABLE polar.organizations RENAME TO organizations_2;
CREATE VIEW polar.organizations AS SELECT id, name FROM polar.organizations_2 WHERE (SELECT nextval('polar.sync_runs_id_seq')) > 0`)
	err := st.View(t.Context(), time.Minute, func(v *store.View) error {
		_, err := v.Activity(t.Context())
		return err
	})
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "25006" {
		t.Errorf("%v, want read-only transaction (25006)", err)
	}
}
