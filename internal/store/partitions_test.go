package store_test

import (
	"testing"
	"time"

	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/storetest"
)

func TestExpiredMonthsGoAndTheirLastStatesStay(t *testing.T) {
	t.Parallel()
	st, db := storetest.New(t)
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

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
