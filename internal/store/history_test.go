package store_test

import (
	"math"
	"testing"
	"time"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A state is what the history holds of one customer meter at one moment.
type state struct {
	at       time.Time
	consumed string
	credited int
	deleted  bool
}

func TestUsageDailyCountsAResetAsAResetNotAsNegativeUsage(t *testing.T) {
	t.Parallel()
	s, db := openOwn(t)
	run := start(t, s, store.Full)
	m := sample(t, 1) // created on 1 March 2026
	save(t, s, run, &store.Block{CustomerMeters: rows(m)})
	if _, err := db.Pool.Exec(t.Context(), `DELETE FROM polar.customer_meter_history`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(t.Context(), `
CREATE TABLE polar.h_old PARTITION OF polar.customer_meter_history FOR VALUES FROM ('2026-01-01') TO ('2026-05-01')`); err != nil {
		t.Fatal(err)
	}
	day := func(d, hour int) time.Time { return time.Date(2026, 4, d, hour, 0, 0, 0, time.UTC) }
	for _, st := range []state{
		{at: day(1, 8), consumed: "100", credited: 200},    // first sight: where counting begins
		{at: day(1, 9), consumed: "130.5", credited: 200},  // 30.5
		{at: day(1, 20), consumed: "140.5", credited: 250}, // 10, and 50 credited
		{at: day(2, 1), consumed: "3", credited: 250},      // reset: 3 of the new period
		{at: day(2, 2), consumed: "7.25", credited: 250},   // 4.25
		{at: day(4, 2), consumed: "7.25", credited: 250, deleted: true},
	} {
		if _, err := db.Pool.Exec(t.Context(), `
INSERT INTO polar.customer_meter_history (customer_meter_id, organization_id, credited_units, observed_at, deleted, consumed_units, balance, source)
VALUES ($1, $2, $3::bigint, $4, $5, $6::text::numeric, $3::bigint - $6::text::numeric, 'full')`,
			m.ID, organization, st.credited, st.at, st.deleted, st.consumed); err != nil {
			t.Fatal(err)
		}
	}
	got := lookup(t, db, `
SELECT string_agg(concat_ws('/', to_char(day, 'DD'), consumed_units, credited_units, resets, closing_balance), ' ' ORDER BY day)
  FROM polar.usage_daily`)
	if want := "01/40.5/50/0/109.5 02/7.25/0/1/242.75 04/0.00/0/0/242.75"; got != want {
		t.Errorf("usage %s, want %s", got, want)
	}
	for at, want := range map[time.Time]string{
		day(1, 7):  "null",
		day(1, 8):  "100",
		day(1, 21): "109.5",
		day(2, 1):  "247",
		day(4, 3):  "null",
	} {
		if got := lookup(t, db, `SELECT (SELECT balance::text FROM polar.balances_at($1))`, at); got != want {
			t.Errorf("balance at %v is %s, want %s", at, got, want)
		}
	}
}

// TestUsageDailyCountsCreditsBeyondABigint: as many credits are given and taken back as
// the column of a customer meter can hold, and usage can still be read.
func TestUsageDailyCountsCreditsBeyondABigint(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	for n, credits := range []int64{math.MaxInt64, math.MinInt64, math.MaxInt64, math.MinInt64} {
		credited := func(m *polar.CustomerMeter) { m.CreditedUnits = credits }
		save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1, credited, modified(time.Duration(n)*time.Hour)), sample(t, 2))})
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', count(DISTINCT customer_meter_id), sum(credited_units)) FROM polar.usage_daily`); got != "2 -18446744073709551615" {
		t.Errorf("rows with usage, and credits: %s, want 2 -18446744073709551615", got)
	}
}

// TestBurnRateCountsTheLastSevenDays: or fewer, if history.keep has left but a state that
// was carried two days ago.
func TestBurnRateCountsTheLastSevenDays(t *testing.T) {
	t.Parallel()
	for since, want := range map[string]string{"30 days": "10 7", "2 days": "35 2"} {
		s, db := open(t)
		run := start(t, s, store.Full)
		balance := func(m *polar.CustomerMeter) { m.Balance = decimal(t, "70") }
		save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1, consumed(t, "10"), balance))})
		exec(t, db, `CREATE TABLE polar.h_old PARTITION OF polar.customer_meter_history FOR VALUES FROM ('2000-01-01') TO ('`+monthStart(time.Now()).Format(time.DateOnly)+`')`)
		exec(t, db, `UPDATE polar.customer_meters SET first_seen_at = now() - interval '30 days'`)
		exec(t, db, `UPDATE polar.customer_meter_history SET observed_at = now() - $1::text::interval`, since)
		save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1, consumed(t, "80"), balance, modified(time.Hour)))})
		got := lookup(t, db, `SELECT concat_ws(' ', trim_scale(round(units_per_day, 2)), round(extract(epoch FROM zero_at - now()) / 86400)) FROM polar.burn_rate`)
		if got != want {
			t.Errorf("units a day and days left, from a history of %s: %s, want %s", since, got, want)
		}
	}
}

// TestBurnRateOfNextToNothing: the balance is so small, or the units are so many, that no
// float holds the days left. One such row must not keep the others from being read.
func TestBurnRateOfNextToNothing(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	for _, units := range []string{"10", "1e350"} {
		small := func(m *polar.CustomerMeter) { m.Balance = decimal(t, "1e-330") }
		save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1, consumed(t, units), small), sample(t, 2, consumed(t, units)), sample(t, 3))})
	}
	if got := lookup(t, db, `SELECT string_agg(concat_ws(':', right(customer_meter_id::text, 1), zero_at - now()), ' ' ORDER BY customer_meter_id) FROM polar.burn_rate`); got != "1:00:00:00 2:00:00:00 3" {
		t.Errorf("time left by row: %s, want none, none, and no end", got)
	}
}
